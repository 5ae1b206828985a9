"""Commands that qdqgraph itself writes: the next step after `check`, and those of the other workers of `tune`."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path

import pytest

from qdqgraph.cli.main import parser
from qdqgraph.cli.words import repairing, words
from tests.support.commands import all_commands

TOP = parser()
EXAMPLES = [line.partition(" >")[0] for each in all_commands(TOP) for line in (each.epilog or "").splitlines()[1:]]
FORMS = [
    "qdqgraph check --target=trt-11 --json -- ./m.onnx -n.onnx",
    "qdqgraph fix -om.onnx -- -in.onnx",
    "qdqgraph fix m.onnx -o o.onnx --only=-a --only b --max-bits-lost=0.5 --keep-io --fp16 -v --json --no-packs",
    "qdqgraph strip m.onnx -o o.onnx --nodes a b --nodes 'c d'",
    "qdqgraph tune m.onnx --data d --budget-db -3.5 --measured ./a.json ./-b.json --with openvino --storage=x:1",
]


def read(line: str) -> dict[str, object]:
    return vars(TOP.parse_args(shlex.split(line)[1:]))


@pytest.mark.parametrize("line", [line for line in EXAMPLES if "--help" not in line] + FORMS)
def test_the_words_of_a_command_give_it_the_same_arguments(line: str) -> None:
    given = read(line)
    command = TOP
    for name in filter(None, (given["verb"], given.get("what"))):
        command = command.below(str(name))
    assert vars(TOP.parse_args(words(command, Namespace(**given)))) == given


@pytest.mark.parametrize(
    ("check", "fix"),
    [
        ("check ./m.onnx", "fix m.onnx -o m.fixed.onnx"),
        ("check m.onnx n.onnx -v --report=r.html --force --json --fail-on error --profile-rules --traceback",
         "fix m.onnx -o m.fixed.onnx"),
        ("check --target trt-11 --select=QDQ1,QDQ2 --ignore QDQ101 --policy 'anchor:a b' --no-packs -- m.onnx",
         "fix m.onnx -o m.fixed.onnx --policy 'anchor:a b' --target trt-11 --select QDQ1,QDQ2 --ignore QDQ101 --no-packs"),
        ("report -or.html --max-bits-lost=2 --rules my/ m.onnx", "fix m.onnx -o m.fixed.onnx --max-bits-lost 2.0 --rules my"),
    ],
)  # fmt: skip
def test_the_proposed_repair_has_the_options_that_decide_what_is_found(check: str, fix: str) -> None:
    args = Namespace(**read(f"qdqgraph {check}"), parser=TOP)
    proposed = repairing(args, Path("m.onnx"))
    assert shlex.join(proposed) == f"qdqgraph {fix}"
    assert read(shlex.join(proposed))["model"] == Path("m.onnx")
