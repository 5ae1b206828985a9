"""The summaries of `check` and `fix`: what becomes of each finding, what rules cost, what remains and why."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import api
from qdqgraph.engines.forecast.cost import excess_of, together
from qdqgraph.repair.rehearsal import Rehearsal
from qdqgraph.report.summary import checking, fixing
from qdqgraph.report.summary.checking import CheckSummary
from qdqgraph.report.summary.names import shortened
from qdqgraph.report.summary.outcomes import Outcome, by_reason, judged
from qdqgraph.report.summary.words import bits_lost, decibels, percent, size
from qdqgraph.rulekit.finding import Severity
from tests.support.models import UNSIGNED, build

TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
ZERO = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) <float s = {0}, int8 z = {0}, float t = {0.1}, int8 o = {3}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d)
    p = QuantizeLinear (x, t, o) v = DequantizeLinear (p, t, o) }"""
"""A scale of 0, which is repaired on request only, and a zero-point, which is repaired."""


def summary(text: str | onnx.ModelProto, **settings: Any) -> CheckSummary:
    model = build(text) if isinstance(text, str) else text
    found = api.check(model, other_targets=True, rehearse=True, **settings)
    return checking.summary("m.onnx", found)


def test_a_finding_that_fix_repairs_is_repairable() -> None:
    found = summary(TWICE)
    assert [(j.finding.code, j.outcome) for j in found.findings] == [("QDQ104", Outcome.REPAIRABLE)]
    assert found.total == "1 finding, 1 repairable" and found.verdict.startswith("1 finding that costs 1.024 kB a run")
    assert found.after is not None and found.after.bytes < found.int8.bytes


def test_what_the_guard_of_fix_refuses_is_not_repairable() -> None:
    found = summary(TWICE, max_bits_lost=0.1)
    assert found.count(Outcome.LEFT) == 1 and "the limit is 0.1" in found.findings[0].why
    assert found.total == "1 finding, 0 repairable" and [left.code for left in found.kept] == ["QDQ104"]


def test_what_is_repaired_and_remains_is_repairable_in_part_and_the_command_is_named() -> None:
    """As a sum with three operands: a pair is placed at one, and another has no scale."""
    known = summary(TWICE)
    (finding,) = (each.finding for each in known.findings)
    (found,) = judged([finding], Rehearsal(frozenset({finding.identity}), (finding,)))
    assert found.outcome is Outcome.PARTLY and found.outcome.remains
    partly = replace(known, findings=(found,))
    assert partly.outcomes == "0 repairable, 1 repairable in part" and partly.command == known.fix
    assert replace(known, findings=(replace(found, outcome=Outcome.LEFT),)).command == ""


def test_what_is_gone_when_an_illegal_finding_is_repaired_follows_from_it() -> None:
    found = summary(UNSIGNED, rules=qdqgraph.rules(select=["QDQ402"]))
    outcomes = {(j.finding.code, j.finding.place): j.outcome for j in found.findings}
    assert sorted(outcomes.values(), key=str) == [Outcome.FOLLOWS, Outcome.REPAIRABLE]
    assert found.verdict == "TensorRT 10.2 to 10.16 refuses this file: 2 errors (QDQ402)"
    assert found.total == "2 findings, 1 repairable, 1 resolved with them" and found.unwritten == ""
    (row,) = found.codes
    assert (row.findings, row.repairable, row.follows, row.left) == (2, 1, 1, 0)
    assert not qdqgraph.fix(build(UNSIGNED)).left


def test_fix_writes_nothing_while_an_error_remains_and_the_option_that_repairs_it_is_named() -> None:
    found = summary(ZERO)
    assert found.unwritten.startswith("QDQ403 remains at 1 place: ") and found.command == f"{found.fix} --also QDQ403"
    with pytest.raises(qdqgraph.RepairError):
        qdqgraph.fix(build(ZERO))
    assert qdqgraph.fix(build(ZERO), also=("QDQ403",)).left == ()


def test_a_rehearsal_is_what_fix_does() -> None:
    for text in (TWICE, UNSIGNED):
        found, result = summary(text), qdqgraph.fix(build(text))
        repairable = {j.finding.identity for j in found.findings if j.outcome is Outcome.REPAIRABLE}
        assert repairable == {f.identity for f in result.applied} & {j.finding.identity for j in found.findings}
        assert result.int8 is not None and found.after == result.int8[1] and result.int8[0] == found.int8
        assert [f.identity for f in result.found] == sorted(j.finding.identity for j in found.findings)


def test_without_a_rehearsal_the_fields_of_a_finding_decide() -> None:
    found = checking.summary("m.onnx", api.check(build(UNSIGNED)))
    assert {j.outcome for j in found.findings} == {Outcome.REPAIRABLE, Outcome.LEFT} and found.after is None


def test_bytes_of_one_tensor_count_once() -> None:
    found = api.check(build(TWICE))
    (finding,) = found.findings
    again, elsewhere = replace(finding, code="QDQ999"), replace(finding, place="none", tie=None, bytes=7)
    assert together([finding, again], excess_of(found.engine)) == finding.bytes > 0
    assert together([finding, elsewhere, elsewhere], excess_of(found.engine)) == finding.bytes + 7
    done = summary(TWICE)
    assert done.places[0].bytes == done.bytes == finding.bytes
    assert done.places[0].share == finding.bytes / done.int8.bytes <= 1


def test_errors_come_before_what_costs_more() -> None:
    found = summary(ZERO)
    assert {row.severity for row in found.codes} == {Severity.ERROR} and len(found.errors) == 2


def test_a_clean_file_and_one_of_which_nothing_runs_in_int8() -> None:
    clean = summary("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    assert clean.verdict == "no findings; 1 of 1 weighted layers in INT8" and clean.places == ()
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1}> {
        p = t.pair (x, s1) r = Relu (p) y = Conv (r, w) }"""
    assert summary(text).verdict == "no findings, but no weighted layer runs in INT8"


def test_the_summary_of_a_repair() -> None:
    result = api.fix(build(TWICE), numerics=True)
    found = fixing.summary("m.onnx", Path("out.onnx"), None, result)
    assert (found.count, found.remaining, found.written, found.plan) == (1, 0, "out.onnx", None)
    assert found.verdict.startswith("1 finding repaired; 2 of 2 weighted layers in INT8; ")
    table = {row.name: (row.before, row.after) for row in found.rows}
    assert table["findings"] == ("1", "0") and table["activation pairs"] == ("2", "1")
    assert table["worst bits lost"] == ("", "0.14") and table["SQNR"][1].endswith(" dB")
    assert [change.site for change in found.changes] == ["a"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (2, 0, "TensorRT refused the file for 2 errors and accepts it now"),
        (2, 1, "TensorRT refused the file for 2 errors and refuses it for 1 error now"),
        (0, 1, "TensorRT refuses it for 1 error now"),
        (0, 0, ""),
    ],
)
def test_what_tensorrt_says_of_the_file_is_said_of_both_sides(before: int, after: int, said: str) -> None:
    found = fixing.summary("m.onnx", None, None, api.fix(build(TWICE)))
    found = replace(found, before=replace(found.before, errors=before), after=replace(found.after, errors=after))
    assert found.legality == said and (said in found.verdict) and ("TensorRT" in found.verdict) == bool(said)


def test_a_float_network_has_no_findings_before(tmp_path: Path) -> None:
    values = ", ".join(map(str, np.linspace(-1, 1, 16)))
    model = build(
        f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w = {{{values}}}> {{ r = Relu (x) y = Conv (r, w) }}"
    )
    data = [{"x": np.random.default_rng(seed).normal(size=(1, 4, 8, 8)).astype(np.float32)} for seed in range(3)]
    found = fixing.summary("m.onnx", None, None, api.quantize(model, data=data, numerics=True))
    assert found.before.findings is None and found.numbers is not None
    assert found.numbers.meaning == "against the float network on 3 samples of your data"


def test_reasons_that_differ_in_names_and_numbers_are_one_kind() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,4,8,8] z, float[1,4,8,8] u) {
        a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) b = Sigmoid (x) z = t.conv4 (b, s1) u = t.conv4 (b, s2) }"""
    found = [each for each in qdqgraph.check(build(text), max_bits_lost=0.1) if each.code == "QDQ104"]
    left = by_reason(found)
    assert [(each.code, len(each.findings)) for each in left] == [("QDQ104", 2)]


def test_short_names_keep_their_end_and_stay_different() -> None:
    names = ["/backbone/stage/model.2/cv1/Conv_output_0", "/backbone/stage/model.3/cv1/Conv_output_0", "images"]
    forms = shortened(names, 18)
    assert forms["images"] == "images" and len(set(forms.values())) == 3
    assert all(form.startswith("…") and name.endswith(form[1:]) for name, form in forms.items() if name != "images")
    assert shortened(names, 60) == {name: name for name in names}
    assert shortened(["/a/very/long/path/Add_output_0"], 16) == {"/a/very/long/path/Add_output_0": "…/Add_output_0"}


def test_sizes_and_shares() -> None:
    assert [size(n) for n in (0, 1, 999, 1000, 486_400, 38_361_648, 447_450_042, 10**23)] == [
        "0 bytes", "1 byte", "999 bytes", "1.000 kB", "486.4 kB", "38.36 MB", "447.5 MB", "100000 EB",
    ]  # fmt: skip
    assert [decibels(db) for db in (41.23, math.inf, math.nan)] == ["41.2 dB", "exact", "not finite"]
    assert [bits_lost(bits) for bits in (0.14, -1)] == ["0.14", "clips 2.00x"]
    assert [percent(share) for share in (0, 0.0001, 0.25, 1)] == ["0 %", "<0.1 %", "25.0 %", "100.0 %"]
