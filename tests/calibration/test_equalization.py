"""Cross-layer equalization: which layers are linked, the factors, and a float network that stays the same, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")

from qdqgraph.calibration.equalization.channels import Channels, measured
from qdqgraph.calibration.equalization.equalization import Equalized, equalization
from qdqgraph.calibration.equalization.factors import MOST, factors
from qdqgraph.calibration.equalization.links import links
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.graph.graph import Graph
from qdqgraph.model.corrected import replaced
from qdqgraph.model.runtime import run
from tests.support.imbalance import CHAIN, RATIOS, arrays, filled, normal

MEMORY = 4 << 30


def found(model: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> Equalized:
    return equalization(Graph(model), float_model(model, Path()), {}, samples, memory=MEMORY)


def equalized(model: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> onnx.ModelProto:
    return replaced(model, found(model, samples).constants, Path())


def bits(model: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> list[list[bytes]]:
    return [[np.asarray(value).tobytes() for value in outputs] for outputs in run(model, samples, Path())]


def linked(text: str, **more: np.ndarray) -> list[tuple[str, str]]:
    own = {"w": np.ones((4, 4, 1, 1)), "v": np.ones((4, 4, 1, 1)), "b": np.ones(4)} | more
    kept = {name: array.astype(np.float32) for name, array in own.items() if f" {name}," in text or f" {name})" in text}
    return [(link.first.key, link.second.key) for link in links(Graph(filled(text, kept)))]


def chain(between: str, second: str = "y = Conv (r, v)") -> str:
    """Two layers of four channels with nodes in between."""
    return f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4,8,8] x) => (float[1,4,m,n] y)
        {{
            a = Conv (x, w, b)
            {between}
            {second}
        }}"""


@pytest.mark.parametrize(
    ("between", "second"),
    [
        ("r = Relu (a)", "y = Conv (r, v)"),
        ("", "y = Conv (a, v)"),
        ("r = LeakyRelu <alpha = 0.2> (a)", "y = Conv (r, v)"),
        ("r = PRelu (a, p)", "y = Conv (r, v)"),
        ("i = Identity (a)\n r = MaxPool <kernel_shape = [2, 2]> (i)", "y = Conv (r, v)"),
        ("r = AveragePool <kernel_shape = [2, 2]> (a)", "y = ConvTranspose (r, v)"),
        ("r = GlobalAveragePool (a)", "y = Conv (r, v)"),
        ("r = Relu (a)", "y = Conv <group = 4> (r, u)"),
    ],
)
def test_linked_layers(between: str, second: str) -> None:
    text = chain(between, second)
    more = {"p": np.full((4, 1, 1), 0.3), "u": np.ones((4, 1, 1, 1))}
    assert linked(text, **more) == [("a", "y")]


@pytest.mark.parametrize(
    ("between", "second"),
    [
        ("r = Sigmoid (a)", "y = Conv (r, v)"),
        ("r = Relu (a)\n s = Add (r, x)", "y = Conv (s, v)"),
        ("r = PRelu (a, x)", "y = Conv (r, v)"),
        ("r = Relu (a)\n o = Conv (r, v)", "y = Add (o, r)"),
        ("r = Relu (a)", "y = Conv (r, w)"),
        ("r = Relu (a)\n v = Mul (w, w)", "y = Conv (r, x2)"),
    ],
    ids=["not homogeneous", "residual", "computed slope", "two readers", "shared weights", "input as weights"],
)
def test_layers_that_are_not_linked(between: str, second: str) -> None:
    text = chain(between, second).replace("] x)", "] x, float[4,4,1,1] x2)" if "x2" in second else "] x)")
    assert linked(text) == []


def test_a_graph_output_in_between_keeps_its_values() -> None:
    text = chain("r = Relu (a)").replace("=> (", "=> (float[1,4,8,8] r, ")
    assert linked(text) == []


def test_known_ratios_are_found_and_the_float_outputs_stay() -> None:
    model = filled(CHAIN, arrays())
    (moved,) = found(model, normal()).moved
    assert np.abs(np.log2(moved.factors.values / RATIOS)).max() <= 1
    assert moved.factors.after > moved.factors.before + 10
    changed = equalized(model, normal())
    assert bits(changed, normal(seed=1)) == bits(model, normal(seed=1))
    seen = measured(float_model(changed, Path()), ["r"], normal(), memory=MEMORY)["r"]
    assert seen.largest.max() / seen.largest.min() < 4
    assert not found(changed, normal()).moved


def test_channels_are_measured() -> None:
    x = np.array([[[1.0, -3.0]], [[2.0, 0.5]]], np.float32)[None]
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,1,2] x) => (float[1,2,1,2] y) { y = Relu (x) }"""
    network = float_model(onnx.parser.parse_model(text), Path())
    seen = measured(network, ["x"], [{"x": x}, {"x": 2 * x}], memory=MEMORY)["x"]
    assert seen.largest.tolist() == [6.0, 4.0]
    assert seen.square == pytest.approx([(10 + 40) / 4, (4.25 + 17) / 4])


def test_factors_are_powers_of_two_within_their_limit() -> None:
    blocks = np.random.default_rng(0).normal(size=(1, 8, 6, 9))
    largest = np.array([1.0, 1e-3, 0.3, 0.0, 1e-6, 0.05])
    best = factors(blocks, Channels(largest, largest**2 / 9))
    assert best is not None and best.after > best.before
    exponents = np.log2(best.values)
    assert (exponents == np.rint(exponents)).all() and exponents.min() >= -np.log2(MOST) and exponents.max() == 0
    assert best.values[3] == 1
    assert factors(blocks, Channels(np.ones(6), np.ones(6) / 9)) is None
    assert factors(np.zeros((1, 8, 6, 9)), Channels(largest, largest**2)) is None


def test_constants_that_would_lose_bits_stay() -> None:
    own = arrays()
    own["b"] = np.full(8, np.finfo(np.float32).max / 2, np.float32)
    assert not found(filled(CHAIN, own), normal()).moved


class Chain:
    """A random chain of layers with channels of random ranges."""

    def __init__(self, seed: int, size: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.width, self.tensor, self.flat = 4, "x", False
        for _ in range(size):
            self.flat = self.flat or self.random.random() < 0.1
            self.layer()
            for _ in range(self.random.integers(0, 3)):
                self.function()

    def constant(self, *shape: int, out: int = 0) -> str:
        spread = 2.0 ** self.random.integers(-5, 5, [n if i == out else 1 for i, n in enumerate(shape)])
        name = f"c{len(self.constants)}"
        array = (self.random.normal(size=shape) * spread).astype(np.float32)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, [self.tensor, *inputs], [f"t{len(self.nodes)}"], **attributes))
        self.tensor = f"t{len(self.nodes) - 1}"

    def layer(self) -> None:
        width, new = self.width, int(self.random.choice([2, 4, 8]))
        kind = self.random.choice(["conv", "depthwise", "groups", "transposed"])
        if self.flat:
            if "Flatten" not in {n.op_type for n in self.nodes}:
                self.node("GlobalAveragePool")
                self.node("Flatten")
            transposed = int(self.random.integers(0, 2))
            weights = self.constant(*((new, width) if transposed else (width, new)), out=1 - transposed)
            self.node("Gemm", weights, self.constant(new), transB=transposed)
        elif kind == "depthwise":
            self.node("Conv", self.constant(width, 1, 3, 3), pads=[1, 1, 1, 1], group=width)
            new = width
        elif kind == "groups":
            self.node("Conv", self.constant(new, width // 2, 1, 1), self.constant(new), group=2)
        elif kind == "transposed":
            groups = int(self.random.choice([1, 2]))
            weights = self.constant(width, new // groups, 3, 3, out=1)
            self.node("ConvTranspose", weights, self.constant(new), pads=[1, 1, 1, 1], group=groups)
        else:
            self.node("Conv", self.constant(new, width, 3, 3), self.constant(new), pads=[1, 1, 1, 1])
        self.width = new

    def function(self) -> None:
        op = str(self.random.choice(["Relu", "LeakyRelu", "PRelu", "Identity", "MaxPool", "AveragePool"]))
        if op == "PRelu":
            self.node(op, self.constant(self.width, *(() if self.flat else (1, 1))))
        elif "Pool" not in op:
            self.node(op)
        elif not self.flat:
            self.node(op, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    @property
    def model(self) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
        y = helper.make_tensor_value_info(
            self.tensor, TensorProto.FLOAT, ["n", "c"] if self.flat else ["n", "c", "h", "w"]
        )
        graph = helper.make_graph(self.nodes, "chain", [x], [y], self.constants)
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_on_random_chains_the_float_outputs_are_bit_identical(seed: int, size: int) -> None:
    model = Chain(seed, size).model
    changed = equalized(model, normal(4))
    onnx.checker.check_model(changed, full_check=True)
    assert bits(changed, normal(2, seed=1)) == bits(model, normal(2, seed=1))


def test_random_chains_have_factors() -> None:
    moved = [len(found(Chain(seed, 5).model, normal(4)).moved) for seed in range(10)]
    assert sum(moved) > 10
