"""What holds for every Q/DQ graph, on random ones: scanning is pure, fixing settles, undo is exact, order is free."""

import random
from pathlib import Path

import onnx
from hypothesis import given
from hypothesis import strategies as st

import qdqgraph
from qdqgraph import Options, Safety
from qdqgraph.calibration.noise import noise
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.share import Int8Share
from qdqgraph.repair.plan import Plan, digest
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.rule import scan
from qdqgraph.targets.target import Target
from qdqgraph.verify.comparison import compare
from tests.support.graphs import nets, wrapped
from tests.support.weights import quantized_layers, weight_nets

RULES = qdqgraph.rules()


@given(nets, st.sampled_from([0.5, 1.0, 3.0]))
def test_fix_settles_undoes_and_leaves_its_input_alone(model: onnx.ModelProto, limit: float) -> None:
    before = model.SerializeToString()
    result = qdqgraph.fix(model, RULES, Options(max_bits_lost=limit))
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.model, full_check=True)
    assert not qdqgraph.fix(result.model, RULES, Options(max_bits_lost=limit)).plan.edits
    plan = Plan.from_json(result.plan.to_json())
    assert plan.apply(model).SerializeToString() == result.model.SerializeToString()
    assert plan.inverse().apply(result.model).SerializeToString() == before
    assert all(c.lost <= limit for c in result.changes)


@given(nets)
def test_scanning_is_pure(model: onnx.ModelProto) -> None:
    before = digest(model)
    graph = Graph(model)
    assert scan(graph, RULES) == scan(graph, RULES)
    assert digest(model) == before


@given(nets, st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(model: onnx.ModelProto, shuffle: random.Random) -> None:
    shuffled = list(RULES)
    shuffle.shuffle(shuffled)
    assert qdqgraph.fix(model, shuffled).plan.to_json() == qdqgraph.fix(model, RULES).plan.to_json()


@given(nets)
def test_exact_repairs_are_bit_exact(model: onnx.ModelProto) -> None:
    result = qdqgraph.fix(model, RULES, Options(exact=True))
    assert {f.safety for f in result.applied} <= {Safety.EXACT}
    assert all(a.identical for a in compare(model, result.model, noise(model, 2), Path()).values())


@given(weight_nets)
def test_computed_weights_keep_their_int8_layers_and_their_values(model: onnx.ModelProto) -> None:
    """Only a sum of many products may differ, by one step of an integer, from what onnxruntime computes."""
    before = model.SerializeToString()
    result = qdqgraph.fix(model, RULES, Options())
    assert quantized_layers(result.model) >= quantized_layers(model)
    assert not qdqgraph.fix(result.model, RULES, Options()).plan.edits
    assert result.plan.inverse().apply(result.model).SerializeToString() == before
    exact = all(f.safety is Safety.EXACT for f in result.applied)
    compared = compare(model, result.model, noise(model, 2), Path()).values()
    assert all(c.identical if exact else c.sqnr > 40 for c in compared)


@given(weight_nets)
def test_exact_repairs_of_computed_weights_are_bit_exact(model: onnx.ModelProto) -> None:
    result = qdqgraph.fix(model, RULES, Options(exact=True))
    assert all(c.identical for c in compare(model, result.model, noise(model, 2), Path()).values())


def readings(model: onnx.ModelProto) -> list[Int8Share]:
    """What runs in INT8 by the two readings of the rules that refusals use."""
    graph = Graph(model, target=Target.named())
    targets = (graph.target.of_libraries, graph.target)
    return [Int8Share.of(forecast(graph.aimed_at(target), "", together=True)) for target in targets]


@given(nets, st.sampled_from(["max", "output"]))
def test_the_forecast_never_gets_worse_from_the_graph_that_tensorrt_accepts(
    model: onnx.ModelProto, policy: str
) -> None:
    legal = qdqgraph.fix(model, qdqgraph.rules(select=["QDQ4"])).model
    result = qdqgraph.fix(legal, RULES, Options(policy=policy, max_bits_lost=3.0))
    assert not all(
        after.worse_than(before) for before, after in zip(readings(legal), readings(result.model), strict=True)
    )
    assert result.int8 is not None and not result.int8[0].refused
    assert result.int8[1] == readings(result.model)[1]


@given(nets, st.integers(0, 2**32))
def test_functions_hide_nothing(model: onnx.ModelProto, seed: int) -> None:
    """A network with parts in local functions has the findings of the same network without them, and the same repair."""
    parts = wrapped(model, seed)
    before, plain = parts.SerializeToString(), qdqgraph.fix(model, RULES)
    found = [f for f in qdqgraph.check(parts, RULES) if f.code != "QDQ421"]
    assert [f.code for f in found] == [f.code for f in qdqgraph.check(model, RULES)]
    result = qdqgraph.fix(parts, RULES)
    assert sorted(n.op_type for n in result.model.graph.node if n.domain == "") == sorted(
        n.op_type for n in plain.model.graph.node
    ) or not (result.applied or plain.applied)
    assert all(a.identical for a in compare(plain.model, result.model, noise(model, 1), Path()).values())
    assert Plan.from_json(result.plan.to_json()).inverse().apply(result.model).SerializeToString() == before
    assert not qdqgraph.fix(result.model, RULES).plan.edits
