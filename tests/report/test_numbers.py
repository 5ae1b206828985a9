"""The numeric check in the summary of `fix`: which output is worst, what the figure says, which side is noisy."""

import math

import pytest

import qdqgraph
from qdqgraph.calibration.agreement import Agreement
from qdqgraph.report.summary import fixing
from qdqgraph.report.summary.sides import Numbers, numbers, rows
from qdqgraph.verify.verification import Sides, Verification
from tests.support.models import build

NOISE = "against the unrepaired model on random inputs: not an accuracy figure; give --data"


def shown(found: Verification) -> list[str]:
    """The rows on the numeric check: name, before, after, note."""
    result = qdqgraph.fix(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"))
    known = fixing.summary("m.onnx", None, None, result)
    table = rows(qdqgraph.api.Result.of(result, numbers=found), known.before, known.after, numbers(found))
    return [" ".join(filter(None, (r.name, r.before, r.after, r.note))) for r in table if r.name.startswith("SQNR")]


SIDES = [
    (Sides(9.3, math.inf), "9.3 dB exact the given model is the noisy side"),
    (Sides(28.9, 9.8), "28.9 dB 9.8 dB the repaired model is the noisy side"),
    (Sides(31.3, 31.9), "31.3 dB 31.9 dB"),
    (Sides(1.8, 8.0), "1.8 dB 8.0 dB both are far, so these inputs tell little; give typical ones with --data"),
]


@pytest.mark.parametrize(("sides", "said"), SIDES)
def test_the_noisy_side_is_named(sides: Sides, said: str) -> None:
    found = shown(Verification({"y": Agreement(9.4, False)}, 1, floats={"y": sides}))
    assert found == [f"SQNR 9.4 dB {NOISE}", f"SQNR to float values {said}"]


def test_the_worst_output_counts() -> None:
    found = numbers(Verification({"a": Agreement(40.0, False), "b": Agreement(12.5, False)}, 1))
    assert (found.output, found.value, found.outputs, found.identical) == ("b", "12.5 dB", 2, 0)
    broken = numbers(Verification({"a": Agreement(math.nan, False), "b": Agreement(12.5, False)}, 1))
    assert (broken.output, broken.value) == ("a", "not finite")


def test_an_empty_output_is_not_called_identical() -> None:
    found = Verification({"y": Agreement(math.inf, True, "empty")}, 1)
    assert shown(found) == ["SQNR not compared every output is empty, constant, NaN, or independent of the inputs"]


def test_equal_constants_are_said_to_show_little() -> None:
    found = Verification({"y": Agreement(math.inf, True, "all values are 0, compares little")}, 1)
    assert shown(found) == [f"SQNR bit-identical {NOISE}; all values are 0, compares little"]


def test_a_lost_check_has_its_reason() -> None:
    assert shown(Verification({}, skipped="no ORT")) == ["SQNR not compared no ORT"]


def test_on_data_no_caution_is_needed() -> None:
    found = Verification({"y": Agreement(31.0, False)}, 16, data=True)
    assert shown(found) == ["SQNR 31.0 dB against the unrepaired model on 16 samples of your data"]
    floats: Numbers = numbers(found, floats=True)
    assert floats.meaning == "against the float network on 16 samples of your data"
