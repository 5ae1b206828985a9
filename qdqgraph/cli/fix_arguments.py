"""The arguments that fix and quantize share, in groups."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from .data_arguments import add_calibration, add_data
from .external_arguments import add_external
from .plan_arguments import add_plan
from .report_arguments import add_report


def add_written(verb: ArgumentParser) -> None:
    """Adds the options on what is written, and what is converted before."""
    group = verb.add_argument_group("result")
    group.add_argument("-o", "--output", type=Path, metavar="OUT", help="output file")
    group.add_argument("--force", action="store_true", help="overwrite existing files")
    add_external(group)
    add_plan(group)
    group.add_argument("--dry-run", action="store_true", help="run all steps but write nothing")
    group.add_argument("--fp16", action="store_true", help="convert the non-INT8 part to FP16, for strong typing")
    group.add_argument("--keep-io", action="store_true", help="with --fp16: inputs and outputs keep their types")
    help = "exit with 1 if a finding is left; the file is written anyway"
    group.add_argument("--exit-non-zero-if-left", action="store_true", help=help)


def add_checks(verb: ArgumentParser) -> None:
    """Adds the options on what the result is checked with."""
    group = verb.add_argument_group("checks")
    group.add_argument("--no-numerics", action="store_true", help="skip the numeric check")
    help = "build original and result with TensorRT-RTX and compare them before writing"
    group.add_argument("--verify", action="store_true", help=help)
    help = "with --verify: write the result even if its engine is worse than that of the original"
    group.add_argument("--allow-worse", action="store_true", help=help)
    group.add_argument("--provider", choices=["cpu", "cuda"], default="cpu", help="device of the numeric check")


def add_printed(verb: ArgumentParser) -> None:
    """Adds the options on what is printed."""
    group = verb.add_argument_group("output")
    which = group.add_mutually_exclusive_group()
    for names, value, help in (
        (("-q", "--quiet"), "quiet", "print what was written and nothing else"),
        (("-v", "--verbose"), "verbose", "print every repair, every finding that is left, the scales and the outputs"),
    ):
        which.add_argument(*names, action="store_const", const=value, dest="detail", help=help)
    group.set_defaults(detail="normal")
    group.add_argument("--diff", action="store_true", help="print every edit")
    add_report(group, force=False)
    help = "how the result is printed; markdown: the summary for a pull request (default: text)"
    group.add_argument("--format", choices=["text", "json", "markdown"], default="text", help=help)
    group.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")


def add_samples(verb: ArgumentParser, data: str, *, floats: bool) -> None:
    """Adds the options on samples, and on scales from them.

    Args:
        verb: the command.
        data: what the samples are for.
        floats: the model itself is the float network.
    """
    group = add_data(verb, data)
    if not floats:
        help = "with --data: the float network, for the exact weights"
        group.add_argument("--reference", type=Path, metavar="FLOAT.onnx", help=help)
    add_calibration(verb)
