"""The argument parser of the command line and its entry point; the other modules implement the commands."""

from __future__ import annotations

import argparse
import gc
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

from .. import __version__
from ..model.inline.references import referencing
from ..rulekit.naming import NO_PACKS
from ..stop import STOP
from .apart import apart
from .failures import failed, stopped
from .parsers import Parser, add_command
from .written import ages_of, so_far, stores, written_since

VERBS = {
    "apply": "plans",
    "check": "check",
    "completion": "completion",
    "diff": "plans",
    "draw": "engine",
    "engine": "engine",
    "error": "accuracy",
    "explain": "rules",
    "fix": "fix",
    "quantize": "fix",
    "report": "report",
    "rules": "rules",
    "sensitivity": "accuracy",
    "strip": "fix",
    "torch": "torch",
    "tune": "tune",
    "undo": "plans",
    "why": "rules",
}
"""For each command the module that runs it; only that one is loaded."""
MODEL = "an ONNX file with Q/DQ"
MANY = 1_000_000
"""New objects after which Python looks for cycles: a large graph has millions that live until the command ends."""


def parser() -> Parser:
    """Returns the argument parser, with the arguments and examples of every command."""
    return _top().whole()


def _top() -> Parser:
    """Returns the parser whose commands get their arguments when they are used: --version and --help load none."""
    top = Parser(
        prog="qdqgraph",
        description="Finds, explains and repairs Q/DQ scales and placements in quantized ONNX graphs, for TensorRT.",
        epilog="exit codes: 0 no findings, or file written; 1 findings or differences; 2 invalid input or rule; "
        "3 a defect of qdqgraph, or a crash; 128 + N ended by signal N",
    )
    top.add_argument("--version", action="version", version=f"qdqgraph {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    example = "qdqgraph check model.onnx\nqdqgraph check exports/*.onnx --select QDQ1 --target trt-8.6"
    add_command(verbs, "check", "list what keeps TensorRT from fusing", example, _check)
    example = "qdqgraph fix model.onnx -o fixed.onnx\nqdqgraph fix model.onnx -o fixed.onnx --data inputs.npz"
    add_command(verbs, "fix", "repair a model and write it", example, _fix)
    example = (
        "qdqgraph quantize float.onnx -o int8.onnx --data inputs.npz\n"
        "qdqgraph quantize float.onnx -o int8.onnx --data photos/ --preprocess imagenet --samples 200"
    )
    add_command(verbs, "quantize", "quantize a float model", example, _quantize)
    example = (
        "qdqgraph strip model.onnx --nodes '/head/*' -o stripped.onnx\n"
        "qdqgraph strip model.onnx --from parts.json --top 3 -o stripped.onnx"
    )
    add_command(verbs, "strip", "remove the pairs of chosen layers", example, _strip)
    example = "qdqgraph error model.onnx --data inputs.npz\nqdqgraph error model.onnx --data inputs.npz --as trt-10"
    add_command(verbs, "error", "measure the error of each layer", example, _error)
    text = "measure what the quantization of each part costs at the outputs"
    add_command(
        verbs, "sensitivity", text, "qdqgraph sensitivity model.onnx --data inputs.npz -o parts.json", _sensitivity
    )
    text = "search for the fastest placement within an accuracy budget"
    add_command(verbs, "tune", text, "qdqgraph tune model.onnx --data photos/ --budget-db 25 -o tuned.onnx", _tune)
    text = "write an HTML page: summary, graph, findings and kernels"
    example = "qdqgraph report model.onnx -o report.html\nqdqgraph report model.onnx --fixed fixed.onnx -o report.html"
    add_command(verbs, "report", text, example, _report)
    for name, text in (("apply", "apply a saved plan"), ("undo", "undo a plan, byte for byte")):
        model = "model.onnx -o fixed.onnx" if name == "apply" else "fixed.onnx -o model.onnx"
        add_command(verbs, name, text, f"qdqgraph {name} plan.json {model}", _plan)
    text = "list pairs, scales and placements that differ"
    add_command(verbs, "diff", text, "qdqgraph diff model.onnx fixed.onnx", _diff)
    text = "show what a rule finds, why, and its examples"
    add_command(verbs, "explain", text, "qdqgraph explain QDQ101\nqdqgraph explain concat-scales-differ", _explain)
    text = "show what a rule does at a tensor, or the condition that failed"
    add_command(verbs, "why", text, "qdqgraph why QDQ101 model.onnx --at cat1", _why)
    add_command(verbs, "rules", "list, write and test rules", "qdqgraph rules list\nqdqgraph rules test my/", _rules)
    text = "forecast, build, read, compare and draw engines"
    example = "qdqgraph engine forecast model.onnx\nqdqgraph engine diff a.json b.json"
    add_command(verbs, "engine", text, example, _engine)
    text = "draw a model with its groups and findings"
    add_command(verbs, "draw", text, "qdqgraph draw model.onnx -o model.svg", _draw)
    text = "quantize, analyse and train a PyTorch network"
    add_command(verbs, "torch", text, "qdqgraph torch quantize --help", _torch)
    text = "print the completion script of a shell"
    example = "qdqgraph completion bash > ~/.local/share/bash-completion/completions/qdqgraph"
    add_command(verbs, "completion", text, example, _completion)
    return top


def _model(verb: argparse.ArgumentParser, help: str = MODEL) -> None:
    verb.add_argument("model", type=Path, metavar="MODEL", help=help)


def _error(verb: argparse.ArgumentParser) -> None:
    from .accuracy_arguments import add_error

    add_error(verb)
    _common(verb)


def _sensitivity(verb: argparse.ArgumentParser) -> None:
    from .accuracy_arguments import add_sensitivity

    add_sensitivity(verb)
    _common(verb)


def _tune(verb: argparse.ArgumentParser) -> None:
    from . import tune_arguments

    tune_arguments.add(verb)
    _common(verb)


def _report(verb: argparse.ArgumentParser) -> None:
    from . import report_arguments

    _model(verb)
    report_arguments.add(verb)
    _common(verb)


def _plan(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("plan", type=Path, metavar="PLAN", help="a plan written by: qdqgraph fix --plan")
    _model(verb, "the repaired model" if verb.prog.endswith("undo") else "the ONNX file that the plan was made for")
    _output(verb, required=True)
    _json(verb)


def _diff(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("a", type=Path, metavar="A", help="an ONNX file")
    verb.add_argument("b", type=Path, metavar="B", help="the ONNX file to compare it with")
    _json(verb)


def _explain(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("code", metavar="CODE", help="a code or name, such as QDQ101 or concat-scales-differ")
    _json(verb)
    _rules_option(verb)


def _why(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("code", metavar="CODE", help="a code or name of a rule")
    _model(verb)
    verb.add_argument("--at", required=True, metavar="TENSOR", help="a tensor or node, by name or glob")
    help = "for rule authors: also the line of a Python rule that decided"
    verb.add_argument("--trace", action="store_true", help=help)
    _json(verb)
    _common(verb)


def _engine(verb: argparse.ArgumentParser) -> None:
    from . import engine_arguments

    engine_arguments.add(verb)


def _draw(verb: argparse.ArgumentParser) -> None:
    from . import engine_arguments

    _model(verb)
    engine_arguments.picture(verb)
    verb.add_argument(
        "--unfolded", action="store_true", help="draw each node: fold no Q, DQ or activation into its layer"
    )
    _common(verb)


def _torch(verb: argparse.ArgumentParser) -> None:
    from . import torch_arguments

    torch_arguments.add(verb)


def _completion(verb: argparse.ArgumentParser) -> None:
    from .completion import SHELLS

    verb.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def _rules(verb: argparse.ArgumentParser) -> None:
    from . import rules_arguments

    rules_arguments.add(verb, _rules_option)


def _rules_option(verb: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = verb.add_argument_group("rules")
    help = "add a rule file or folder; Python rules execute code"
    group.add_argument("--rules", type=Path, action="append", default=[], metavar="PATH", help=help)
    help = "also load the Python rules that the settings file lists; they execute code"
    group.add_argument("--allow-python-rules", action="store_true", help=help)
    which = group.add_mutually_exclusive_group()
    help = "read [tool.qdqgraph] from this file (default: the nearest pyproject.toml with that table)"
    which.add_argument("--config", type=Path, metavar="FILE", help=help)
    which.add_argument("--no-config", action="store_true", help="read no pyproject.toml")
    return group


def _common(verb: argparse.ArgumentParser, *, all_of_them: bool = False, floats: bool = False) -> None:
    from .options_arguments import add_options

    add_options(verb.add_argument_group("repair"), all_of_them=all_of_them, floats=floats)
    rules = _rules_option(verb)
    _repeated(rules, "--select", "CODES", "run only these rules: codes, prefixes, names")
    _repeated(rules, "--ignore", "CODES", "do not run these rules")
    rules.add_argument("--profile-rules", action="store_true", help="print the time that each rule took, to stderr")


def _repeated(verb: argparse._ActionsContainer, option: str, metavar: str, help: str) -> None:
    verb.add_argument(option, action="append", default=[], metavar=metavar, help=help)


def _output(verb: argparse.ArgumentParser, *, required: bool) -> None:
    verb.add_argument("-o", "--output", type=Path, required=required, metavar="OUT", help="output file")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")


def _check(verb: argparse.ArgumentParser) -> None:
    from .check_arguments import add_shown

    verb.add_argument("models", type=Path, nargs="+", metavar="MODEL", help=MODEL)
    add_shown(verb)
    _common(verb)


def _fix(verb: argparse.ArgumentParser) -> None:
    _model(verb)
    what = "samples of the inputs, which scales are measured on, and the numeric check runs on (default: seeded noise)"
    _repair(verb, what)


def _quantize(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, metavar="FLOAT.onnx", help="an ONNX file without Q/DQ")
    _repair(verb, "samples of the inputs, which scales are measured on, and the numeric check runs on", floats=True)


def _repair(verb: argparse.ArgumentParser, data: str, *, floats: bool = False) -> None:
    """Adds what fix and quantize share.

    Args:
        verb: the command.
        data: what the samples are for.
        floats: the model has no scales yet.
    """
    from . import fix_arguments

    fix_arguments.add_written(verb)
    _common(verb, all_of_them=True, floats=floats)
    fix_arguments.add_samples(verb, data, floats=floats)
    fix_arguments.add_checks(verb)
    fix_arguments.add_printed(verb)


def _strip(verb: argparse.ArgumentParser) -> None:
    from . import accuracy_arguments
    from .external_arguments import add_external
    from .plan_arguments import add_plan

    _model(verb)
    _output(verb, required=True)
    add_external(verb)
    verb.add_argument(
        "--nodes", nargs="+", action="extend", default=[], metavar="GLOB", help="nodes, by name or output"
    )
    _rules_option(verb)
    _repeated(verb, "--select", "CODES", "the layers these rules report")
    accuracy_arguments.add_worst(verb)
    add_plan(verb)
    _json(verb)


def main(arguments: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs one command; returns the exit code.

    Args:
        arguments: the words after the program; by default those of this process.
        own_process: the command, not the reading of its arguments, runs in a child process, if the system allows it.
            This function then returns in both processes.
    """
    args, STOP.written = Namespace(verb="", traceback=False), str
    gc.set_threshold(MANY, 5, 50)
    try:
        top = _top()
        args = top.parse_args(arguments)
        if not _makes_many_graphs(args):
            gc.set_threshold(5 * MANY, 5, 50)
        args.parser = top
        if own_process and (code := apart(args)) is not None:
            return code
        command = getattr(import_module(f".{VERBS[args.verb]}", __package__), args.verb)
        STOP.written = partial(written_since, ages_of(files := stores(args)))  # a signal can come after `so_far`
        with _packs(getattr(args, "no_packs", False)), so_far(files), referencing(command=True):
            code = int(command(args))
            if hasattr(args, "rule_profile"):
                from .console import warn

                warn(*args.rule_profile.lines())
            return code
    except Exception as error:  # noqa: BLE001 - the last resort
        return failed(error, args)
    except KeyboardInterrupt as stop:
        return stopped(stop, getattr(stop, "number", STOP.number))


def _makes_many_graphs(args: Namespace) -> bool:
    """Returns whether a command makes many graphs one after the other, so that cycles are to be freed in between: it
    measures, searches, or is given several models."""
    many = args.verb in ("torch", "tune") or len(getattr(args, "models", "")) > 1
    return many or getattr(args, "data", None) is not None


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
