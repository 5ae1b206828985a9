"""The screens in a terminal: as wide as it is, with styles, and harmless whatever the names are."""

from io import StringIO

import pytest
from rich.console import Console

from qdqgraph import api
from qdqgraph.report.screens import checking as screen
from qdqgraph.report.screens import fixing as repairs
from qdqgraph.report.summary import checking, fixing
from tests.support.models import build

TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
COMMAND = ("qdqgraph", "fix", "a model.onnx", "-o", "out.onnx")


def terminal(width: int) -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, width=width, force_terminal=True, color_system=None), file


@pytest.mark.parametrize("width", [60, 120])
def test_lines_fit_the_terminal_but_for_the_command(width: int) -> None:
    console, file = terminal(width)
    found = checking.summary("model.onnx", "trt-10", api.check(build(TWICE), rehearse=True))
    screen.show(console, found, screen.Detail.NORMAL, COMMAND)
    *lines, last = file.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert last == "1 finding, 1 repairable: qdqgraph fix 'a model.onnx' -o out.onnx"
    console, file = terminal(width)
    result = api.fix(build(TWICE), numerics=True)
    done = fixing.summary("model.onnx", "out.onnx", None, result)
    repairs.show(console, done, result, repairs.Detail.NORMAL)
    assert max(len(line.rstrip()) for line in file.getvalue().splitlines()) <= width


def test_a_name_cannot_begin_a_line_or_a_command() -> None:
    model = build(TWICE)
    evil = "a\n::stop-commands::x\x1b[2J"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = evil if name == "a" else name
    file = StringIO()
    found = checking.summary("m.onnx", "trt-10", api.check(model, rehearse=True))
    for detail in screen.Detail:
        screen.show(Console(file=file), found, detail, COMMAND)
    assert "\x1b" not in file.getvalue()
    assert not any(line.lstrip().startswith("::") for line in file.getvalue().splitlines())
