"""Every block of commands or Python on every page is run by a test, or says why not; what is not run is still valid, and
so are the examples of the CLI reference."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from qdqgraph.cli.main import parser
from qdqgraph.versions import tomllib
from tests.support.documents import RECIPES, Block, blocks, pages, prose
from tests.support.paths import ROOT

REASONS = ("gpu", "network", "time", "package", "excerpt")
"""How a reason begins: needs a GPU, needs the network, takes minutes, needs a package that tests do not have, a part of a
program or a command with placeholders."""
KINDS = {"console", "sh", "python", "toml", "onnx", "text", "json", "yaml", "cpp"}
ALL = [block for page in pages() for block in blocks(page)]
NOT_RUN = [block for block in ALL if block.reason]
PROGRAMS = r"(?:qdqgraph|python|pip|make|trtexec|apt-get) "
TRTEXEC = {
    "--onnx",
    "--int8",
    "--fp16",
    "--exportLayerInfo",
    "--exportProfile",
    "--exportTimes",
    "--saveEngine",
    "--stronglyTyped",
    "--profilingVerbosity",
    "--dumpLayerInfo",
    "--dumpProfile",
    "--inputIOFormats",
}
FOREIGN = {*TRTEXEC, "--no-deps", "--calibrator", "--quant-add", "--size", "--late"}
"""Options of trtexec, pip and the samples in the text."""


def commands(chosen: list[Block]) -> Iterator[tuple[str, list[str]]]:
    """The page and the words of each command."""
    for block in chosen:
        for line in block.lines if block.kind in ("sh", "console") else ():
            for part in re.split(r" && | \| ", line):
                yield block.page.name, shlex.split(re.sub(r" >\S* ?\S+$", "", part))


def test_kinds_and_reasons_are_known() -> None:
    assert len(ALL) > 150
    assert {block.kind for block in ALL} <= KINDS
    assert [block.reason for block in NOT_RUN if not block.reason.startswith(REASONS)] == []


def test_a_file_that_a_page_shows_is_used_by_the_page_or_says_why_not() -> None:
    for block in ALL:
        if block.name and not block.reason and block.page.name != "recipes.md":
            rest = "".join(other.body for other in blocks(block.page) if other.name != block.name)
            assert block.name.split("/")[0].removesuffix(".py") in rest or block.kind in ("toml", "onnx"), block.name
    shown = {block.name for block in ALL if block.page.name == "recipes.md" and block.name and not block.reason}
    assert shown == set(RECIPES)


def test_no_command_hides_in_an_indented_block() -> None:
    for page in pages():
        if page.name == "ci.md":  # has a test of its own
            continue
        assert re.findall(rf"(?:^|\n\n) {{4}}\$? ?{PROGRAMS}.*", prose(page)) == [], page


@pytest.mark.parametrize(
    ("page", "words"),
    list(commands([b for b in NOT_RUN if not b.reason.startswith("excerpt")] + blocks(ROOT / "docs" / "cli.md"))),
)
def test_a_command_that_is_not_run_is_valid(page: str, words: list[str]) -> None:
    match words:
        case ["qdqgraph", *rest]:
            parser().parse_args(rest)
        case [python, "-m", module, *_] if python.endswith("python"):
            assert find_spec(module)
        case ["python", script, *_] | [".ci/run" as script]:
            assert (ROOT / script).is_file()
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets if "=" not in target)
        case [pip, "install", *_] if pip.endswith("pip"):
            assert_extras(words)
        case ["trtexec", *options]:
            assert {option.split("=")[0] for option in options} <= TRTEXEC
        case ["pip", "download", *_] | ["source", *_]:
            pass
        case _:
            raise AssertionError("no test for such a command: add a case")


def assert_extras(words: list[str]) -> None:
    """The extras that pip is told to install exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for word in words:
        if found := re.search(r"^\.\[(.*)\]$", word):
            assert set(found[1].split(",")) <= set(extras)


def options() -> set[str]:
    """Every option of the command line."""

    def of(command: argparse.ArgumentParser) -> Iterator[str]:
        for action in command._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    yield from of(child)

    return set(of(parser()))


def test_options_in_the_text_exist() -> None:
    known = options() | FOREIGN
    for page in pages():
        if page.parent.name == "measurements" or page.name in ("cli.md",):
            continue
        for code in re.findall(r"`([^`\n]+)`", prose(page)):
            if not code.startswith(("trtexec", "python ", "pip ", "make ")):
                for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code):
                    assert option in known, f"{page.name}: {option}"
