"""What holds for every Q/DQ graph, on random ones: scanning is pure, fixing settles, undo is exact, order is free."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import qdqgraph
from qdqgraph import Options, Safety
from qdqgraph.calibration.inputs import noise
from qdqgraph.repair.plan import Plan, digest
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.rule import scan
from qdqgraph.verify.comparison import compare

RULES = qdqgraph.rules()
SCALES = [0.05, 0.06, 0.08, 0.1, 0.3]


STEPS = ["conv", "conv", "relu", "pool", "add", "concat", "pair", "pair", "silu", "move", "padded", "halves"]


class Net:
    """A random network of 4-channel 8x8 tensors: convolutions, pools, moves, Concats, Adds, pairs in odd places."""

    def __init__(self, seed: int, size: int) -> None:
        self.random = random.Random(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inits = [helper.make_tensor("z", TensorProto.INT8, [], [0])]
        self.tensors = ["x"]
        for _ in range(size):
            getattr(self, self.random.choice(STEPS))()

    def name(self) -> str:
        return f"t{len(self.nodes)}"

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        out = self.name()
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def constant(self, values: Sequence[float], kind: int, dims: list[int]) -> str:
        name = f"k{len(self.inits)}"
        self.inits.append(helper.make_tensor(name, kind, dims, values))
        return name

    def pick(self) -> str:
        return self.random.choice(self.tensors[-5:])

    def quantized(self, tensor: str) -> str:
        scale = self.constant([self.random.choice(SCALES)], TensorProto.FLOAT, [])
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [tensor, scale, "z"]), scale, "z"])

    def conv(self, source: str | None = None, channels: int = 4, kernel: int = 1) -> None:
        values = [self.random.randint(-60, 60) for _ in range(4 * channels * kernel**2)]
        weights = self.constant(values, TensorProto.INT8, [4, channels, kernel, kernel])
        scale = self.constant([0.01], TensorProto.FLOAT, [])
        weight = self.node("DequantizeLinear", [weights, scale, "z"])
        self.tensors.append(self.node("Conv", [self.quantized(source or self.pick()), weight]))

    def relu(self) -> None:
        self.tensors.append(self.node("Relu", [self.pick()]))

    def silu(self) -> None:
        x = self.pick()
        self.tensors.append(self.node("Mul", [x, self.node("Sigmoid", [x])]))

    def pool(self) -> None:
        op = self.random.choice(["MaxPool", "AveragePool"])
        self.tensors.append(self.node(op, [self.pick()], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))

    def add(self) -> None:
        self.tensors.append(self.node("Add", [self.pick(), self.pick()]))

    def pair(self) -> None:
        self.tensors.append(self.quantized(self.pick()))

    def padded(self) -> None:
        pads = self.constant([0, 0, 1, 1, 0, 0, 1, 1], TensorProto.INT64, [8])
        self.conv(self.node("Pad", [self.pick(), pads]), kernel=3)

    def halves(self) -> None:
        halves = [self.name(), f"{self.name()}b"]
        self.nodes.append(helper.make_node("Split", [self.pick()], halves, axis=1))
        self.conv(self.node("Concat", [halves[0], self.quantized(halves[1])], axis=1))

    def move(self) -> None:
        if self.random.random() < 0.3:
            self.tensors.append(self.node("Identity", [self.pick()]))
        self.tensors.append(self.node("Transpose", [self.pick()], perm=[0, 1, 3, 2]))

    def concat(self) -> None:
        joined = self.node("Concat", [self.pick(), self.pick()], axis=1)
        self.conv(joined, 8)

    def model(self) -> onnx.ModelProto:
        self.conv()
        outputs = dict.fromkeys([self.tensors[-1], self.pick()])
        values = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [1, 4, 8, 8]) for o in outputs if o != "x"]
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
        graph = helper.make_graph(self.nodes, "random", [source], values, self.inits)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


nets = st.builds(lambda seed, size: Net(seed, size).model(), st.integers(0, 2**32), st.integers(3, 40))
many = settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@many
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


@many
@given(nets)
def test_scanning_is_pure(model: onnx.ModelProto) -> None:
    before = digest(model)
    graph = Graph(model)
    assert scan(graph, RULES) == scan(graph, RULES)
    assert digest(model) == before


@many
@given(nets, st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(model: onnx.ModelProto, shuffle: random.Random) -> None:
    shuffled = list(RULES)
    shuffle.shuffle(shuffled)
    assert qdqgraph.fix(model, shuffled).plan.to_json() == qdqgraph.fix(model, RULES).plan.to_json()


@many
@given(nets)
def test_exact_repairs_are_bit_exact(model: onnx.ModelProto) -> None:
    result = qdqgraph.fix(model, RULES, Options(exact=True))
    assert {f.safety for f in result.applied} <= {Safety.EXACT}
    assert all(a.identical for a in compare(model, result.model, noise(model, 2), Path()).values())
