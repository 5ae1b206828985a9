"""Random networks whose weights are computed from constants."""

from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qdqgraph.operators import MOVES_WEIGHTS, WEIGHTED
from qdqgraph.rulekit import Graph, pairs

SHAPE = (4, 4, 3, 3)
STEPS = [
    "scaled",
    "added",
    "product",
    "joined",
    "normed",
    "rooted",
    "turned",
    "halved",
    "flat",
    "part",
    "chosen",
    "gathered",
    "negated",
    "requantized",
]


class WeightNet:
    """INT8 convolutions of 4-channel 8x8 tensors; constant expressions of some random steps compute the weights.

    Most are quantized at the end; the others end as the last step leaves them, or in integers.
    """

    def __init__(self, seed: int, layers: int, steps: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inits: list[onnx.TensorProto] = []
        tensor = "x"
        for layer in range(layers):
            weights = self.leaf()
            for _ in range(steps):
                weights = getattr(self, self.random.choice(STEPS))(weights)
            if self.random.random() < 0.7:
                weights = self.pair(weights, self.scales(weights), axis=0)
            data = self.pair(tensor, self.constant(np.float32(0.05)))
            tensor = self.node("Conv", [data, weights], f"y{layer}", pads=[1, 1, 1, 1])
            tensor = self.node("Relu", [tensor], f"r{layer}") if layer < layers - 1 else tensor
        self.output = tensor

    def node(self, op: str, inputs: list[str], out: str = "", **attributes: Any) -> str:
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def constant(self, array: np.ndarray | np.generic) -> str:
        self.inits.append(numpy_helper.from_array(np.asarray(array), f"k{len(self.inits)}"))
        return self.inits[-1].name

    def floats(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape).astype(np.float32))

    def scales(self, weights: str) -> str:
        """The scales that fit the weights, as an exporter measures them."""
        value = Graph(self.made(weights)).value(weights)
        assert value is not None
        return self.constant((np.abs(value).max(axis=(1, 2, 3)) / 127 + 1e-4).astype(np.float32))

    def pair(self, tensor: str, scale: str, **attributes: Any) -> str:
        size = numpy_helper.to_array(next(i for i in self.inits if i.name == scale)).shape
        zero = self.constant(np.zeros(size, np.int8))
        integers = self.node("QuantizeLinear", [tensor, scale, zero], **attributes)
        return self.node("DequantizeLinear", [integers, scale, zero], **attributes)

    def leaf(self) -> str:
        if self.random.random() < 0.5:
            return self.floats(*SHAPE)
        integers = self.constant(self.random.integers(-127, 128, SHAPE).astype(np.int8))
        scale = self.constant(self.random.uniform(0.005, 0.02, 4).astype(np.float32))
        return self.node("DequantizeLinear", [integers, scale, self.constant(np.zeros(4, np.int8))], axis=0)

    def scaled(self, weights: str) -> str:
        shape = [(4, 1, 1, 1), (1, 4, 1, 1), (1,)][self.random.integers(3)]
        return self.node("Mul", [weights, self.floats(*shape)])

    def added(self, weights: str) -> str:
        return self.node("Add", [weights, self.leaf()])

    def product(self, weights: str) -> str:
        low = self.node("MatMul", [self.floats(4, 2), self.floats(2, 36)])
        return self.node("Add", [weights, self.reshaped(low, SHAPE)])

    def joined(self, weights: str) -> str:
        return self.sliced(self.node("Concat", [weights, self.leaf()], axis=0), 2, 6)

    def normed(self, weights: str) -> str:
        axes = [1, 2, 3]
        length = self.node("ReduceL2", [weights], axes=axes)
        return self.node("Div", [weights, self.node("Add", [length, self.constant(np.float32(0.5))])])

    def rooted(self, weights: str) -> str:
        return self.node("Sqrt", [self.node("Abs", [weights])])

    def turned(self, weights: str) -> str:
        perm = self.random.permutation(4).tolist()
        moved = self.node("Transpose", [weights], perm=perm)
        return self.node("Transpose", [moved], perm=np.argsort(perm).tolist())

    def halved(self, weights: str) -> str:
        half = self.node("Cast", [weights], to=TensorProto.FLOAT16)
        return self.node("Cast", [half], to=TensorProto.FLOAT)

    def reshaped(self, tensor: str, shape: tuple[int, ...]) -> str:
        return self.node("Reshape", [tensor, self.constant(np.array(shape, np.int64))])

    def flat(self, weights: str) -> str:
        return self.reshaped(self.reshaped(weights, (4, -1)), SHAPE)

    def sliced(self, tensor: str, start: int, end: int) -> str:
        return self.node("Slice", [tensor, *(self.constant(np.array([v], np.int64)) for v in (start, end, 0))])

    def part(self, weights: str) -> str:
        pads = self.constant(np.array([1, 0, 0, 0, 1, 0, 0, 0], np.int64))
        return self.sliced(self.node("Pad", [weights, pads]), 1, 5)

    def chosen(self, weights: str) -> str:
        return self.node("Where", [self.constant(self.random.random(SHAPE) > 0.2), weights, self.floats(1)])

    def gathered(self, weights: str) -> str:
        return self.node("Gather", [weights, self.constant(self.random.permutation(4).astype(np.int64))])

    def negated(self, weights: str) -> str:
        return self.node("Neg", [weights])

    def requantized(self, weights: str) -> str:
        return self.pair(weights, self.scales(weights), axis=0)

    def made(self, output: str) -> onnx.ModelProto:
        """The model as far as it is built, with one output."""
        shape = SHAPE if output != getattr(self, "output", "") else (1, 4, 8, 8)
        graph = helper.make_graph(
            self.nodes,
            "weights",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape))],
            self.inits,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def model(self) -> onnx.ModelProto:
        model = self.made(self.output)
        onnx.checker.check_model(model, full_check=True)
        return model


weight_nets = st.builds(
    lambda seed, layers, steps: WeightNet(seed, layers, steps).model(),
    st.integers(0, 2**32),
    st.integers(1, 3),
    st.integers(0, 5),
)
"""Valid models of 1 to 3 convolutions, each with up to 5 steps between its constants and its weights."""


def quantized_layers(model: onnx.ModelProto) -> int:
    """The number of layers that read INT8 data and weights from a DequantizeLinear, directly or through operators with
    which TensorRT keeps the INT8 kernel."""
    graph = Graph(model)
    found = 0
    for node in graph.nodes(*sorted(WEIGHTED)):
        names = [t.name for t in node.inputs[:2]]
        while (source := graph.producer(names[1])) is not None and source.op in MOVES_WEIGHTS:
            names[1] = source.inputs[0].name
        found += all(pairs(graph).made(name) is not None for name in names)
    return found
