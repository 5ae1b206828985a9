"""The screens in a terminal: as wide as it is, with styles, and harmless whatever the names are."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import qdqgraph
from qdqgraph import api
from qdqgraph.report import formats
from qdqgraph.report.formats import FileFindings
from qdqgraph.report.html import pages
from qdqgraph.report.screens import checking as screen
from qdqgraph.report.screens import fixing as repairs
from qdqgraph.report.summary import checking, fixing
from tests.support.models import build

TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
COMMAND = "qdqgraph fix 'a model.onnx' -o out.onnx"
ZERO = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float s = {0}, int8 z = {0}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d) }"""
"""A scale of 0, which is repaired on request only."""


def terminal(width: int) -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, width=width, force_terminal=True, color_system=None), file


@pytest.mark.parametrize("width", [60, 120])
def test_lines_fit_the_terminal_but_for_the_command(width: int) -> None:
    console, file = terminal(width)
    found = checking.summary("model.onnx", api.check(build(TWICE), rehearse=True), COMMAND)
    screen.show(console, found, screen.Detail.NORMAL)
    *lines, last = file.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert last == f"1 finding, 1 repairable: {COMMAND}"
    console, file = terminal(width)
    result = api.fix(build(TWICE), numerics=True)
    done = fixing.summary("model.onnx", "out.onnx", None, result)
    repairs.show(console, done, result, repairs.Detail.NORMAL)
    assert max(len(line.rstrip()) for line in file.getvalue().splitlines()) <= width


@pytest.mark.parametrize(("model", "also"), [(TWICE, ""), (ZERO, " --also QDQ403")], ids=["repairable", "on request"])
def test_the_next_step_is_the_same_on_the_screen_in_markdown_and_on_the_page(model: str, also: str) -> None:
    checked = api.check(build(model), rehearse=True)
    found = checking.summary("m.onnx", checked, COMMAND)
    screens = [Console(file=StringIO(), width=200) for _ in range(2)]
    screen.show(screens[0], found, screen.Detail.NORMAL)
    formats.show("markdown", screens[1], [FileFindings.of(checked, (), COMMAND)])
    for console in screens:
        assert isinstance(console.file, StringIO)
        assert COMMAND + also in console.file.getvalue()
    assert pages.check_page(Path("m.onnx"), checked, qdqgraph.rules(), COMMAND).verdict.command == COMMAND + also


def test_a_name_cannot_begin_a_line_or_a_command() -> None:
    model = build(TWICE)
    evil = "a\n::stop-commands::x\x1b[2J"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = evil if name == "a" else name
    file = StringIO()
    found = checking.summary("m.onnx", api.check(model, rehearse=True))
    for detail in screen.Detail:
        screen.show(Console(file=file), found, detail)
    assert "\x1b" not in file.getvalue()
    assert not any(line.lstrip().startswith("::") for line in file.getvalue().splitlines())
