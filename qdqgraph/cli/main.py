"""The argument parser of the command line and its entry point; the other modules implement the commands."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..printable import printable_lines
from ..rulekit.naming import NO_PACKS
from ..stop import STOP
from . import accuracy_arguments, check_arguments, engine_arguments, fix_arguments, torch_arguments, tune_arguments
from .console import warn
from .failures import failed, stopped
from .invocation import add_options
from .slips import unknown_choice, unknown_option
from .written import outputs, so_far

VERBS = {
    "apply": "plans",
    "check": "check",
    "diff": "plans",
    "draw": "engine",
    "engine": "engine",
    "error": "accuracy",
    "explain": "rules",
    "fix": "fix",
    "quantize": "fix",
    "rules": "rules",
    "sensitivity": "accuracy",
    "strip": "fix",
    "torch": "torch",
    "tune": "tune",
    "undo": "plans",
    "why": "rules",
}
"""For each command the module that runs it; only that one is loaded."""


class Parser(argparse.ArgumentParser):
    """A parser that escapes control characters of arguments in its messages, and suggests what a slip may mean."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As `argparse`, but an unknown option of this command is an error here, with the nearest known one."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{unknown_option(rest, self._option_string_actions)}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, unknown_choice(str(value), tuple(map(str, action.choices))))

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Prints the message and ends the process."""
        super().exit(status, message and printable_lines(message))


def parser() -> argparse.ArgumentParser:
    """Returns the argument parser, with one example per command."""
    top = Parser(
        prog="qdqgraph",
        description="Finds, explains and repairs Q/DQ scales and placements in quantized ONNX graphs, for TensorRT.",
        epilog="exit codes: 0 no findings, or file written; 1 findings or differences; 2 invalid input or rule; "
        "3 a defect of qdqgraph; 128 + N ended by signal N",
    )
    top.add_argument("--version", action="version", version=f"qdqgraph {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    _check(_verb(verbs, "check", "list what keeps TensorRT from fusing", "qdqgraph check model.onnx --select QDQ1"))
    _fix(_verb(verbs, "fix", "repair a model and write it", "qdqgraph fix model.onnx -o fixed.onnx --data inputs.npz"))
    example = "qdqgraph quantize float.onnx -o int8.onnx --data inputs.npz"
    _quantize(_verb(verbs, "quantize", "quantize a float model", example))
    _strip(
        _verb(
            verbs, "strip", "remove the pairs of chosen layers", "qdqgraph strip model.onnx --nodes '/head/*' -o o.onnx"
        )
    )
    error = _verb(verbs, "error", "measure the error of each layer", "qdqgraph error model.onnx --data inputs.npz")
    _common(error)
    accuracy_arguments.add_error(error)
    text = "measure what the quantization of each part costs at the outputs"
    ranking = _verb(verbs, "sensitivity", text, "qdqgraph sensitivity model.onnx --data inputs.npz -o parts.json")
    _common(ranking)
    accuracy_arguments.add_sensitivity(ranking)
    text = "search for the fastest placement within an accuracy budget"
    tuning = _verb(verbs, "tune", text, "qdqgraph tune model.onnx --data photos/ --budget-db 25 -o tuned.onnx")
    _common(tuning)
    tune_arguments.add(tuning)
    for name, text in (("apply", "apply a saved plan"), ("undo", "undo a plan, byte for byte")):
        model = "model.onnx -o fixed.onnx" if name == "apply" else "fixed.onnx -o model.onnx"
        verb = _verb(verbs, name, text, f"qdqgraph {name} plan.json {model}")
        verb.add_argument("plan", type=Path, metavar="PLAN", help="a plan written by: qdqgraph fix --plan")
        verb.add_argument("model", type=Path, metavar="MODEL")
        _output(verb, required=True)
    diff = _verb(verbs, "diff", "list pairs, scales and placements that differ", "qdqgraph diff model.onnx fixed.onnx")
    diff.add_argument("a", type=Path, metavar="A")
    diff.add_argument("b", type=Path, metavar="B")
    _json(diff)
    explain = _verb(verbs, "explain", "show what a rule finds, why, and its examples", "qdqgraph explain QDQ101")
    explain.add_argument("code", metavar="CODE", help="a code or name, such as QDQ101 or concat-scales-differ")
    _rules_option(explain)
    _json(explain)
    text = "show what a rule does at a tensor, or the condition that failed"
    why = _verb(verbs, "why", text, "qdqgraph why QDQ101 model.onnx --at cat1")
    why.add_argument("code", metavar="CODE", help="a code or name of a rule")
    why.add_argument("model", type=Path, metavar="MODEL")
    why.add_argument("--at", required=True, metavar="TENSOR", help="a tensor or node, by name or glob")
    why.add_argument(
        "--trace", action="store_true", help="for rule authors: also the line of a Python rule that decided"
    )
    _common(why)
    _json(why)
    _rules(_verb(verbs, "rules", "list, write and test rules", "qdqgraph rules test my_rules/"))
    text = "forecast, build, read, compare and draw engines"
    engine = _verb(verbs, "engine", text, "qdqgraph engine diff a.json b.json")
    engine_arguments.add(engine, _verb)
    draw = _verb(verbs, "draw", "draw a model with its groups and findings", "qdqgraph draw model.onnx -o model.svg")
    draw.add_argument("model", type=Path, metavar="MODEL")
    _common(draw)
    engine_arguments.picture(draw)
    side = _verb(verbs, "torch", "quantize, analyse and train a PyTorch network", "qdqgraph torch quantize --help")
    torch_verbs = side.add_subparsers(dest="what", required=True, metavar="WHAT")
    torch_arguments.add(lambda name, text, example: _verb(torch_verbs, name, text, example))
    return top


def _rules(verb: argparse.ArgumentParser) -> None:
    verbs = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    listed = _verb(verbs, "list", "list the rules: code, name, safety, origin", "qdqgraph rules list")
    _rules_option(listed)
    _json(listed)
    new = _verb(
        verbs, "new", "create a rule from a template that passes its tests", "qdqgraph rules new my-rule --text"
    )
    new.add_argument("name", metavar="NAME", help="the problem in kebab-case, such as identity-after-pair")
    kind = new.add_mutually_exclusive_group()
    kind.add_argument("--text", action="store_const", const="text", dest="kind", help="a text rule, TOML (default)")
    kind.add_argument("--python", action="store_const", const="python", dest="kind", help="a Python rule")
    new.add_argument("--folder", type=Path, default=Path(), help="folder of the new file (default: the current folder)")
    new.add_argument("--code", default="", help="code of the rule (default: the next free MY201, MY202 …)")
    new.add_argument("--force", action="store_true", help="overwrite an existing file")
    new.set_defaults(kind="text")
    test = _verb(verbs, "test", "run the examples of rule files", "qdqgraph rules test my_rules/")
    test.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="files or folders (default: built-in rules)")
    pages = _verb(verbs, "pages", "write a page with diagrams per rule", "qdqgraph rules pages my_rules/ -o docs/")
    pages.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="files or folders (default: built-in rules)")
    pages.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="output folder")


def _verb(verbs: argparse._SubParsersAction, name: str, text: str, example: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, epilog=f"example: {example}")
    help = "do not load the rules of installed packs"
    verb.add_argument("--no-packs", action="store_true", default=argparse.SUPPRESS, help=help)
    help = "print the traceback of an internal error, for a report"
    verb.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=help)
    return verb


def _rules_option(verb: argparse.ArgumentParser) -> None:
    help = "add a rule file or folder; Python rules execute code"
    verb.add_argument("--rules", type=Path, action="append", default=[], metavar="PATH", help=help)
    help = "also load the Python rules that the settings file lists; they execute code"
    verb.add_argument("--allow-python-rules", action="store_true", help=help)
    which = verb.add_mutually_exclusive_group()
    help = "read [tool.qdqgraph] from this file (default: the nearest pyproject.toml with that table)"
    which.add_argument("--config", type=Path, metavar="FILE", help=help)
    which.add_argument("--no-config", action="store_true", help="read no pyproject.toml")


def _common(verb: argparse.ArgumentParser, *, all_of_them: bool = False, floats: bool = False) -> None:
    _rules_option(verb)
    _repeated(verb, "--select", "CODES", "run only these rules: codes, prefixes, names")
    _repeated(verb, "--ignore", "CODES", "do not run these rules")
    verb.add_argument("--profile-rules", action="store_true", help="print the time that each rule took, to stderr")
    add_options(verb, all_of_them=all_of_them, floats=floats)


def _repeated(verb: argparse.ArgumentParser, option: str, metavar: str, help: str) -> None:
    verb.add_argument(option, action="append", default=[], metavar=metavar, help=help)


def _output(verb: argparse.ArgumentParser, *, required: bool) -> None:
    verb.add_argument("-o", "--output", type=Path, required=required, metavar="OUT", help="output file")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")


def _check(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    _common(verb)
    check_arguments.add_shown(verb)


def _fix(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, metavar="MODEL")
    what = "samples of the inputs, which scales are measured on, and the numeric check runs on (default: seeded noise)"
    _repair(verb, what)
    verb.add_argument("--reference", metavar="FLOAT.onnx", help="with --data: the float network, for the exact weights")


def _quantize(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, metavar="FLOAT.onnx")
    _repair(verb, "samples of the inputs, which scales are measured on, and the numeric check runs on", floats=True)


def _repair(verb: argparse.ArgumentParser, data: str, *, floats: bool = False) -> None:
    """Adds what fix and quantize share.

    Args:
        verb: the command.
        data: what the samples are for.
        floats: the model has no scales yet.
    """
    fix_arguments.add_written(verb)
    _common(verb, all_of_them=True, floats=floats)
    fix_arguments.add_samples(verb, data)
    fix_arguments.add_checks(verb)
    fix_arguments.add_printed(verb)


def _strip(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, metavar="MODEL")
    _output(verb, required=True)
    verb.add_argument(
        "--nodes", nargs="+", action="extend", default=[], metavar="GLOB", help="nodes, by name or output"
    )
    _rules_option(verb)
    _repeated(verb, "--select", "CODES", "the layers these rules report")
    accuracy_arguments.add_worst(verb)
    verb.add_argument("--plan", type=Path, metavar="FILE", help="save the plan, for apply and undo")
    _json(verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = Namespace(verb="", traceback=False)
    gc.set_threshold(100_000, 50, 50)  # a graph has millions of small live objects: frequent collections free nothing
    try:
        args = parser().parse_args(arguments)
        args.given = tuple(sys.argv[1:] if arguments is None else arguments)
        command = getattr(import_module(f".{VERBS[args.verb]}", __package__), args.verb)
        with _packs(getattr(args, "no_packs", False)), so_far(outputs(args)):
            code = int(command(args))
            warn(*(args.rule_profile.lines() if hasattr(args, "rule_profile") else ()))
            return code
    except Exception as error:  # noqa: BLE001 - the last resort
        return failed(error, args)
    except KeyboardInterrupt as stop:
        return stopped(stop, getattr(stop, "number", STOP.number))


@contextmanager
def _packs(without: bool) -> Iterator[None]:
    """Lets this process, and the processes that it starts, load no installed rule pack."""
    before = os.environ.get(NO_PACKS)
    if without:
        os.environ[NO_PACKS] = "1"
    try:
        yield
    finally:
        if without and before is None:
            del os.environ[NO_PACKS]
