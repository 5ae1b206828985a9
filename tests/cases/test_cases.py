"""Small graphs after public bug reports: what `check` finds, what `fix` does, and what TensorRT-RTX builds.

A case is a file here; `tests/support/cases.py` describes its form. Its header says what is right:

    report:  the public report
    shape:   what the graph looks like
    right:   what should happen, in words
    check:   the findings, each a code and a place, and no other; or none
    finds:   findings that are among them
    older:   findings that are among them for TensorRT 8.6
    lacks:   codes, or codes and places, that are not among them
    fix:     0 if a file is written, 2 if not, and words of the message
    int8:    weighted layers in INT8 before and after, by a TensorRT-RTX build; or refused, none (no file), any
    outputs: against the input, in ONNX Runtime: identical, at least N dB, any; unrunnable (the input), never (both),
             none (no file)
"""

import functools
import math
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph.errors import QdqgraphError
from qdqgraph.model import runtime
from qdqgraph.verify import comparison
from tests.support.builder import Builder, int8_layers
from tests.support.cases import FOLDER, Case, read, sample

CASES = [read(path) for path in sorted(FOLDER.glob("*.onnxtxt"))]

PENDING: dict[tuple[str, str], str] = {}
"""Aspects of cases that fail today, with the reason; a repair removes its entry here."""


def over(aspect: str) -> pytest.MarkDecorator:
    """Runs a test for every case; those of `PENDING` must fail."""
    marks = {name: pytest.mark.xfail(strict=True, reason=why) for (name, of), why in PENDING.items() if of == aspect}
    rows = [pytest.param(case, id=case.name, marks=marks.get(case.name, ())) for case in CASES]
    return pytest.mark.parametrize("case", rows)


@pytest.fixture(scope="session")
def builder() -> Iterator[Builder]:
    """One process that builds all engines; the test skips where TensorRT-RTX is not installed."""
    pytest.importorskip("tensorrt_rtx")
    with Builder() as made:
        yield made


@functools.cache
def repaired(case: Case) -> qdqgraph.Result | str:
    """The repair of a case, or the message of the error."""
    try:
        return qdqgraph.fix(case.model, qdqgraph.rules(), numerics=True)
    except QdqgraphError as error:
        return str(error)


def findings(case: Case, target: str = "trt-10") -> set[str]:
    """What check finds for a generation of TensorRT: codes and places."""
    return {f"{f.code} {f.place}" for f in qdqgraph.check(case.model, qdqgraph.rules(), target=target)}


def listed(text: str) -> set[str]:
    """The entries of a list with commas; "none" has none."""
    return set() if text == "none" else {entry.strip() for entry in text.split(",") if entry.strip()}


def words(case: Case, key: str) -> tuple[str, str]:
    """The two sides of a line `before -> after`."""
    before, _, after = case.one(key).partition(" -> ")
    return before, after


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_case_says_what_it_is(case: Case) -> None:
    keys = {key for key, value in case.says if value}
    assert {"report", "shape", "right", "fix", "int8", "outputs"} <= keys
    assert keys <= {"report", "shape", "right", "check", "finds", "lacks", "older", "fix", "int8", "outputs"}
    assert case.one("report").startswith(("https://", "none: "))
    assert not [key for key in PENDING if key[0] not in {c.name for c in CASES}], "a mark without a case"


@over("check")
def test_check_finds_what_is_wrong(case: Case) -> None:
    found = findings(case)
    for expected in case.all("check"):
        assert found == listed(expected)
    assert listed(case.one("finds")) <= found
    codes = {entry.split(" ")[0] for entry in found}
    assert not listed(case.one("lacks")) & (found | codes)
    if case.one("older"):
        assert listed(case.one("older")) <= findings(case, "trt-8.6")


@over("fix")
def test_fix_writes_a_valid_file_or_says_why_not(case: Case) -> None:
    code, _, said = case.one("fix").partition(", ")
    result = repaired(case)
    if code == "2":
        assert isinstance(result, str)
        assert said in result
        return
    assert not isinstance(result, str), result
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model).SerializeToString() == case.model.SerializeToString()
    again = qdqgraph.fix(result.model, qdqgraph.rules())
    assert not again.plan.edits, "a second run still changes something: " + again.plan.diff()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_strip_writes_a_valid_file(case: Case) -> None:
    try:
        stripped = qdqgraph.strip(case.model, ["*"]).model
        onnx.checker.check_model(case.model, full_check=True)
    except QdqgraphError:
        return  # nothing to strip
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return  # as invalid as before
    onnx.checker.check_model(stripped, full_check=True)


@over("outputs")
def test_outputs_stay_what_they_were(case: Case) -> None:
    pytest.importorskip("onnxruntime")
    expected, result = case.one("outputs"), repaired(case)
    if expected == "none":
        assert isinstance(result, str)
        return
    assert not isinstance(result, str), result
    feeds = [sample(case.model)]
    if expected in ("unrunnable", "never"):
        with pytest.raises(QdqgraphError):
            runtime.run(case.model, feeds, Path())
        if expected == "unrunnable":
            runtime.run(result.model, feeds, Path())
        return
    found = comparison.compare(case.model, result.model, feeds, Path())
    assert all(a.identical for a in found.values()) or expected != "identical"
    least = float(expected.removesuffix(" dB")) if expected.endswith(" dB") else -math.inf
    assert min(a.sqnr for a in found.values()) >= least


@over("int8")
def test_tensorrt_runs_as_much_in_int8_as_before(case: Case, builder: Builder) -> None:
    before, after = words(case, "int8")
    result = repaired(case)
    first = builder.build(case.model)
    assert before == "any" or before == ("refused" if isinstance(first, str) else str(int8_layers(first)[0])), first
    if after == "none":
        assert isinstance(result, str)
        return
    assert not isinstance(result, str), result
    if after == "any" or result.model.SerializeToString() == case.model.SerializeToString():
        assert after in (before, "any")
        return
    second = builder.build(result.model)
    assert after == ("refused" if isinstance(second, str) else str(int8_layers(second)[0])), second
