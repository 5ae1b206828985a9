"""Random Q/DQ networks for properties that hold for every graph."""

import random
from collections.abc import Sequence
from typing import Any

import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

SCALES = (0.05, 0.06, 0.08, 0.1, 0.3)
HALF_SCALES = (0.046875, 0.0625, 0.078125, 0.09375, 0.3125)
"""Scales that FP16 represents exactly."""
CLOSE_SCALES = (0.05, 0.050003, 0.06, 0.0601, 0.1, 0.100002, 0.3)
"""Scales of which FP16 rounds some to the same number."""

STEPS = ["conv", "conv", "relu", "pool", "add", "concat", "pair", "pair", "silu", "move", "padded", "halves"]


class Net:
    """A random network of 4-channel 8x8 tensors: convolutions, pools, moves, Concats, Adds, pairs in odd places."""

    def __init__(self, seed: int, size: int, scales: Sequence[float] = SCALES) -> None:
        self.random, self.scales = random.Random(seed), scales
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
        scale = self.constant([self.random.choice(self.scales)], TensorProto.FLOAT, [])
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


def networks(scales: Sequence[float]) -> st.SearchStrategy[onnx.ModelProto]:
    """Valid models of 3 to 40 random steps, with pairs of these scales."""
    return st.builds(lambda seed, size: Net(seed, size, scales).model(), st.integers(0, 2**32), st.integers(3, 40))


nets = networks(SCALES)
half_nets = networks(HALF_SCALES)
close_nets = networks(CLOSE_SCALES)


def wrapped(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with runs of its nodes in local functions, some of them inside another function.

    A function receives all tensors that it reads, constants included, and returns those that are read outside it.
    """
    source = random.Random(seed)
    new = onnx.ModelProto()
    new.CopyFrom(model)
    new.opset_import.append(helper.make_opsetid("local", 1))
    nodes = list(model.graph.node)
    for number in range(source.randint(1, 4)):
        start = source.randrange(len(nodes))
        body = nodes[start : start + source.randint(1, 6)]
        made = [name for node in body for name in node.output if name]
        read = {name for node in body for name in node.input if name} - set(made)
        outside = {n for node in (*nodes[:start], *nodes[start + len(body) :]) for n in node.input}
        outside |= {o.name for o in model.graph.output}
        returned = [name for name in made if name in outside]
        if not returned:
            continue
        inputs, name = sorted(read), f"Part{number}"
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        new.functions.append(helper.make_function("local", name, inputs, returned, body, opsets))
        call = helper.make_node(name, inputs, returned, domain="local")
        nodes[start : start + len(body)] = [call]
    del new.graph.node[:]
    new.graph.node.extend(nodes)
    onnx.checker.check_model(new)
    return new
