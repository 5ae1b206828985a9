"""The arguments of the rules commands."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from .parsers import add_command


def add(verb: ArgumentParser, rules_option: Callable[[ArgumentParser], object]) -> None:
    """Adds the subcommands of `qdqgraph rules`; `rules_option` adds --rules and the settings file."""
    verbs = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    listed = add_command(verbs, "list", "list the rules: code, name, safety, origin", "qdqgraph rules list")
    listed.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    rules_option(listed)
    new = add_command(
        verbs, "new", "create a rule from a template that passes its tests", "qdqgraph rules new my-rule --text"
    )
    new.add_argument("name", metavar="NAME", help="the problem in kebab-case, such as identity-after-pair")
    kind = new.add_mutually_exclusive_group()
    kind.add_argument("--text", action="store_const", const="text", dest="kind", help="a text rule, TOML (default)")
    kind.add_argument("--python", action="store_const", const="python", dest="kind", help="a Python rule")
    new.add_argument("--folder", type=Path, default=Path(), help="folder of the new file (default: the current folder)")
    new.add_argument("--code", default="", help="code of the rule (default: the next free MY201, MY202 …)")
    new.add_argument("--force", action="store_true", help="overwrite existing files")
    new.set_defaults(kind="text")
    test = add_command(verbs, "test", "run the examples of rule files", "qdqgraph rules test my_rules/")
    test.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="files or folders (default: built-in rules)")
    test.add_argument("--json", action="store_true", help="print the verdicts as JSON and nothing else")
    pages = add_command(
        verbs, "pages", "write a page with diagrams per rule", "qdqgraph rules pages my_rules/ -o docs/"
    )
    pages.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="files or folders (default: built-in rules)")
    pages.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="output folder")
    pages.add_argument("--force", action="store_true", help="overwrite existing files")
