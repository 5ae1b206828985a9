"""What a model and its half-precision forms have in common, on random networks and on the examples of all rules.

The two forms: `sandwiched` (FP32 scales, Casts around each pair, as pytorch-quantization exports) and `to_fp16` (FP16
scales). Scales that FP16 does not represent become other numbers in the second form: there unequal scales may become
equal, so exactly the findings that compare scales may differ.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings

import qdqgraph
from qdqgraph import Options, RepairError
from qdqgraph.calibration.noise import noise
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.fp16 import to_fp16
from qdqgraph.model.text import parse
from qdqgraph.operators import KERNELS, WEIGHTED
from qdqgraph.rulekit import Example, Graph, Rule
from qdqgraph.rulekit.rule import scan
from qdqgraph.verify.comparison import compare
from tests.support.graphs import close_nets, half_nets
from tests.support.halves import sandwiched

RULES = qdqgraph.rules()
COMPARE_SCALES = {"QDQ101", "QDQ102", "QDQ103", "QDQ104", "QDQ105", "QDQ205", "QDQ206"}
WITHOUT_HALF = {"QDQ407", "QDQ409", "QDQ410", "QDQ411", "QDQ416", "QDQ429"}
"""Rules with examples whose operators, or inputs such as the scales of a Resize, ONNX defines for FP32 only."""

WITHOUT_FORM = {"QDQ419", "QDQ420", "QDQ421", "QDQ422"}
"""Rules about types and other faults for which onnx.checker rejects a model, which Casts would repair or hide, and about
functions and subgraphs, in which `sandwiched` writes nothing."""

FEWER = settings(max_examples=settings().max_examples // 8)
"""Each example of these properties runs several repairs."""

Seen = Counter[tuple[str, str, tuple[str, ...]]]


def seen(model: onnx.ModelProto) -> Seen:
    """Code, place and tied sites of all findings."""
    found = scan(Graph(model), RULES)
    return Counter((f.code, f.place, f.tie.sites if f.tie is not None else ()) for f in found)


def int8_layers(model: onnx.ModelProto) -> tuple[int, int]:
    """How many weighted layers of the forecast run in INT8, and how many there are."""
    kinds = {KERNELS[op] for op in WEIGHTED}
    weighted = [layer for layer in forecast(Graph(model), "").layers if layer.kind in kinds]
    return sum(layer.precision == "INT8" for layer in weighted), len(weighted)


def valid(model: onnx.ModelProto) -> onnx.ModelProto:
    onnx.checker.check_model(model, full_check=True)
    return model


def forms(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    return valid(sandwiched(model)), valid(to_fp16(model).model)


@FEWER
@given(half_nets)
def test_findings_repairs_and_int8_layers_are_those_of_the_twin(model: onnx.ModelProto) -> None:
    twin = qdqgraph.fix(model, RULES)
    for form in forms(model):
        assert seen(form) == seen(model)
        assert int8_layers(form) == int8_layers(model)
        result = qdqgraph.fix(form, RULES)
        assert [f.identity for f in result.applied] == [f.identity for f in twin.applied]
        assert [f.identity for f in result.left] == [f.identity for f in twin.left]
        assert int8_layers(valid(result.model)) == int8_layers(twin.model)
        assert not qdqgraph.fix(result.model, RULES).plan.edits


@FEWER
@given(close_nets)
def test_rounding_of_scales_changes_only_what_compares_scales(model: onnx.ModelProto) -> None:
    between, rounded = forms(model)
    assert seen(between) == seen(model)
    changed = (seen(rounded) - seen(model)) + (seen(model) - seen(rounded))
    assert {code for code, _, _ in changed} <= COMPARE_SCALES
    assert int8_layers(rounded) == int8_layers(model)


@FEWER
@given(close_nets)
def test_a_second_run_with_fp16_changes_nothing(model: onnx.ModelProto) -> None:
    for form in (model, sandwiched(model)):
        once = valid(qdqgraph.fix(form, RULES, fp16=True).model)
        assert not qdqgraph.fix(once, RULES).plan.edits
        assert qdqgraph.fix(once, RULES, fp16=True).model.SerializeToString() == once.SerializeToString()
        assert to_fp16(once).model.SerializeToString() == once.SerializeToString()


@FEWER
@given(half_nets)
def test_exact_repairs_are_bit_exact_in_both_forms(model: onnx.ModelProto) -> None:
    for form in forms(model):
        result = qdqgraph.fix(form, RULES, Options(exact=True))
        assert all(a.identical for a in compare(form, result.model, noise(form, 2), Path()).values())


@pytest.mark.parametrize("rule", [r for r in RULES if r.code not in WITHOUT_FORM], ids=lambda rule: rule.code)
def test_rules_treat_the_sandwiched_form_of_their_examples_as_the_example(rule: Rule) -> None:
    for example in rule.examples:
        model = parse(example.before if isinstance(example, Example) else example.model)
        form = sandwiched(model)
        try:
            valid(form)
        except onnx.shape_inference.InferenceError:
            assert rule.code in WITHOUT_HALF, example.title
            continue
        assert seen(form) == seen(model), example.title
        assert outcome(form) == outcome(model), example.title


def outcome(model: onnx.ModelProto) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]] | None:
    """What `fix` repairs and leaves, the result checked; None if it refuses the model."""
    try:
        result = qdqgraph.fix(model, RULES)
    except RepairError:
        return None
    valid(result.model)
    assert not qdqgraph.fix(result.model, RULES).plan.edits
    return [f.identity for f in result.applied], [f.identity for f in result.left]
