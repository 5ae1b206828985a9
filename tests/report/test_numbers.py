"""The rows of the numeric check: what was compared, which side is noisy, and what shows nothing."""

import io
import math

import pytest
from rich.console import Console

import qdqgraph
from qdqgraph.calibration.agreement import Agreement
from qdqgraph.report.text import show_result
from qdqgraph.verify.verification import Sides, Verification
from tests.support.models import build


def rows(found: Verification) -> list[str]:
    """The rows on the outputs and the numeric check."""
    result = qdqgraph.fix(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"))
    shown = io.StringIO()
    show_result(Console(file=shown, width=300), "m.onnx", result, found)
    lines = (" ".join(line.split()) for line in shown.getvalue().splitlines())
    return [line for line in lines if line.startswith(("output", "numeric"))]


SIDES = [
    (Sides(9.3, math.inf), "input 9.3 dB, result equal: the input is the noisy side"),
    (Sides(28.9, 9.8), "input 28.9 dB, result 9.8 dB: the result is the noisy side"),
    (Sides(31.3, 31.9), "input 31.3 dB, result 31.9 dB"),
    (Sides(1.8, 8.0), "input 1.8 dB, result 8.0 dB: both are far, so these inputs tell little; give typical ones with --data"),
]  # fmt: skip


@pytest.mark.parametrize(("sides", "said"), SIDES)
def test_the_noisy_side_is_named(sides: Sides, said: str) -> None:
    found = rows(Verification({"y": Agreement(9.4, False)}, 1, floats={"y": sides}))
    assert found == [f"output y SQNR 9.4 dB against the input, on seeded noise; against float values: {said}"]


def test_an_empty_output_is_not_called_identical() -> None:
    found = Verification({"y": Agreement(math.inf, True, "empty, compares nothing")}, 1)
    assert rows(found) == ["output y empty, compares nothing, on seeded noise"]


def test_equal_constants_are_said_to_show_little() -> None:
    found = Verification({"y": Agreement(math.inf, True, "all values are 0, compares little")}, 1)
    assert rows(found) == [
        "output y bit-identical against the input, on seeded noise; all values are 0, compares little"
    ]


def test_a_lost_check_has_its_reason() -> None:
    assert rows(Verification({}, skipped="no ORT")) == ["numeric check skipped: no ORT"]
