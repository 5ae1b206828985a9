"""Graphs that grow: chains, fans, trees and blocks of any number of nodes, for measurements of time and memory.

Each kind is one long construct between two INT8 convolutions, so that every rule and the forecast walk over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qdqgraph.model import shapes

CHANNELS = 8
SIZE = 8
MOST = 400
"""The largest number of nodes of a block that `repeated` looks for."""


class Net:
    """A graph under construction, with tensors [1, 8, 8, 8] unless an operator changes that."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.random = np.random.default_rng(1)
        weights = np.random.default_rng(0).integers(-100, 100, (CHANNELS, 2 * CHANNELS, 1, 1)).astype(np.int8)
        self.inits = [
            numpy_helper.from_array(weights[:, :CHANNELS].copy(), "w8"),
            numpy_helper.from_array(weights, "w16"),
            numpy_helper.from_array(np.full(CHANNELS, 0.01, np.float32), "ws"),
            numpy_helper.from_array(np.zeros(CHANNELS, np.int8), "wz"),
        ]

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        """Appends a node; returns its output."""
        out = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))  # type: ignore[arg-type]
        return out

    def constant(self, name: str, array: np.ndarray) -> str:
        """Appends an initializer, unless there is one of this name; returns the name."""
        if all(tensor.name != name for tensor in self.inits):
            self.inits.append(numpy_helper.from_array(array, name))
        return name

    def pair(self, x: str) -> str:
        """Q → DQ with its own scale, in Constants as TorchScript exports them."""
        scale = np.asarray(self.random.uniform(0.08, 0.12), np.float32)
        s = self.node("Constant", [], value=numpy_helper.from_array(scale))
        z = self.node("Constant", [], value=numpy_helper.from_array(np.asarray(0, np.int8)))
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, s, z]), s, z])

    def conv(self, x: str, weights: str = "w8") -> str:
        """Q → DQ → Conv with weights that all such convolutions share."""
        d = self.pair(x)
        return self.node("Conv", [d, self.node("DequantizeLinear", [weights, "ws", "wz"], axis=0)])

    def silu(self, x: str) -> str:
        """x * Sigmoid(x)."""
        return self.node("Mul", [x, self.node("Sigmoid", [x])])

    def model(self, output: str, rank: int = 4) -> onnx.ModelProto:
        """The model with this output."""
        image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE])
        made = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self.nodes, "growing", [image], [made], self.inits)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def backbone(size: int) -> onnx.ModelProto:
    """A detector backbone: C3-like blocks with SiLU, residual Adds, Concats and a pool."""
    net, x = Net(), "x"
    while len(net.nodes) < size:
        a = net.silu(net.conv(x))
        b = net.node("Add", [a, net.silu(net.conv(net.silu(net.conv(a))))])
        joined = net.node("Concat", [b, net.silu(net.conv(x))], axis=1)
        y = net.silu(net.conv(joined, "w16"))
        x = net.node("MaxPool", [y], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return net.model(x)


def chain(size: int, step: Callable[[Net, str], str]) -> onnx.ModelProto:
    """Steps in a row between two INT8 convolutions."""
    net = Net()
    x = net.conv("x")
    while len(net.nodes) < size - 10:
        x = step(net, x)
    return net.model(net.conv(x))


def fan(size: int, branch: Callable[[Net, str], str]) -> onnx.ModelProto:
    """Branches that all read one tensor; two of them reach the output, the others end in a small pool."""
    net = Net()
    root = net.node("Relu", [net.conv("x")])
    ends: list[str] = []
    while len(net.nodes) < size - 10:
        ends.append(net.node("ReduceMax", [branch(net, root)], keepdims=1))
    return net.model(net.node("Max", ends))


def concat(size: int, *, deep: bool) -> onnx.ModelProto:
    """Convolutions joined by one Concat of all; or by Concats of two, the output of one being an input of the next."""
    net = Net()
    root = net.conv("x")
    parts: list[str] = []
    while len(net.nodes) < size - 10:
        parts.append(net.node("MaxPool", [net.conv(root)], kernel_shape=[1, 1]))
    if deep:
        joined = parts[0]
        for part in parts[1:]:
            joined = net.node("Concat", [joined, part], axis=1)
        return net.model(net.pair(joined))
    return net.model(net.pair(net.node("Concat", parts, axis=1)))


def tree(size: int) -> onnx.ModelProto:
    """A binary tree of Concats over the batch, whose leaves are convolutions."""
    net = Net()
    root = net.conv("x")
    level: list[str] = []
    while len(net.nodes) < size - 10:
        level.append(net.conv(root))
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [net.node("Concat", two, axis=0) if len(two) == 2 else two[0] for two in pairs]
    return net.model(net.pair(level[0]))


def _op(op: str, **attributes: object) -> Callable[[Net, str], str]:
    return lambda net, x: net.node(op, [x], **attributes)


def _reshape(net: Net, x: str) -> str:
    return net.node("Reshape", [x, net.constant("shape", np.array([1, CHANNELS, SIZE, SIZE], np.int64))])


def _scaled(net: Net, x: str) -> str:
    return net.node("Mul", [x, net.constant("half", np.asarray(0.5, np.float32))])


def _residual(net: Net, x: str) -> str:
    return net.node("Add", [x, net.silu(net.conv(x))])


def _norm(net: Net, x: str) -> str:
    """LayerNormalization in separate nodes, as exporters write it."""
    centred = net.node("Sub", [x, net.node("ReduceMean", [x], axes=[-1])])
    square = net.node("Pow", [centred, net.constant("two", np.asarray(2, np.float32))])
    variance = net.node("ReduceMean", [square], axes=[-1])
    root = net.node("Sqrt", [net.node("Add", [variance, net.constant("eps", np.asarray(1e-5, np.float32))])])
    return net.node("Div", [centred, root])


def _softmax(net: Net, x: str) -> str:
    """Softmax in separate nodes."""
    up = net.node("Exp", [net.node("Sub", [x, net.node("ReduceMax", [x], axes=[-1])])])
    return net.node("Div", [up, net.node("ReduceSum", [up, net.constant("last", np.array([-1], np.int64))])])


def _attention(net: Net, x: str) -> str:
    """A product of two quantized tensors, a mask and a Softmax, and its product with the values."""
    q, k, v = net.pair(x), net.node("Transpose", [net.pair(x)], perm=[0, 1, 3, 2]), net.pair(x)
    mask = net.constant("mask", np.where(np.eye(SIZE) > 0, 0, -1e4).astype(np.float32))
    weights = net.node("Softmax", [net.node("Add", [net.node("MatMul", [q, k]), mask])], axis=-1)
    return net.node("MatMul", [net.pair(weights), v])


def _statistic(net: Net, x: str) -> str:
    """A mean that is computed with in many steps before it is subtracted."""
    mean = net.node("ReduceMean", [x], axes=[-1])
    for _ in range(6):
        mean = _scaled(net, mean)
    return net.node("Sub", [x, mean])


def _gate(net: Net, x: str) -> str:
    return net.silu(x)


def _half(net: Net, x: str) -> str:
    return net.node("Cast", [net.node("Cast", [x], to=TensorProto.FLOAT16)], to=TensorProto.FLOAT)


def _folded(size: int) -> onnx.ModelProto:
    """Weights that a long chain of operators computes from constants, each step also read by a convolution."""
    net, x = Net(), "x"
    w = net.node("DequantizeLinear", ["w8", "ws", "wz"], axis=0)
    while len(net.nodes) < size - 10:
        w = net.node("Neg", [w])
        x = net.node("Conv", [net.pair(x), w])
    return net.model(x)


def _moved(size: int) -> onnx.ModelProto:
    """Weights of more elements than are cached, negated again and again, each step also read by a matrix product."""
    net, width = Net(), 2 * SIZE * SIZE
    x = net.node("Reshape", ["x", net.constant("shape", np.array([-1, width], np.int64))])
    integers = np.random.default_rng(0).integers(-100, 100, (width, width)).astype(np.int8)
    w = net.node("DequantizeLinear", [net.constant("w", integers), net.constant("s", np.asarray(0.01, np.float32))])
    while len(net.nodes) < size - 10:
        w = net.node("Neg", [w])
        x = net.node("MatMul", [net.pair(x), w])
    return net.model(x, rank=2)


def _squared(size: int) -> onnx.ModelProto:
    """Weights that are multiplied by themselves again and again."""
    net = Net()
    w = net.node("DequantizeLinear", ["w8", "ws", "wz"], axis=0)
    while len(net.nodes) < size - 10:
        w = net.node("Mul", [w, w])
    return net.model(net.node("Conv", [net.pair("x"), w]))


def _doubled(size: int) -> onnx.ModelProto:
    """Scales of a Resize, joined with dequantized values that are joined with themselves; these are empty, or they
    would have more elements than memory has."""
    net = Net()
    x, w = net.conv("x"), net.constant("none", np.zeros(0, np.int8))
    w = net.node("DequantizeLinear", [w, net.constant("step", np.asarray(0.1, np.float32))])
    while len(net.nodes) < size - 10:
        w = net.node("Concat", [w, w], axis=0)
    scales = net.node("Concat", [net.constant("scales", np.array([1, 1, 2, 2], np.float32)), w], axis=0)
    return net.model(net.conv(net.node("Resize", [x, "", scales])))


def _pooled(net: Net, x: str) -> str:
    return net.node("MaxPool", [net.pair(x)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def repeated(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """A network with its largest block of one input and one output of the same shape, repeated up to `size` nodes.

    Raises:
        ValueError: the network has no such block.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    start, end, block = _largest_block(new)
    made = {name for node in block for name in node.output}
    before = {o.name for o in new.graph.output}
    nodes, position = list(new.graph.node), next(i for i, n in enumerate(new.graph.node) if end in n.output) + 1
    last, copies = end, list[onnx.NodeProto]()
    for number in range((size - len(nodes)) // len(block)):
        names = {start: last, **{name: f"{name}.{number}" for name in made}}
        for node in block:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}.{number}"
            for field in (copy.input, copy.output):
                field[:] = [names.get(name, name) for name in field]
            copies.append(copy)
        last = names[end]
    for node in nodes:
        if node not in block:
            node.input[:] = [last if name == end else name for name in node.input]
    if end in before:
        raise ValueError("the block ends in an output of the network")
    del new.graph.node[:]
    new.graph.node.extend([*nodes[:position], *copies, *nodes[position:]])
    del new.graph.value_info[:]
    return new


def _largest_block(model: onnx.ModelProto) -> tuple[str, str, list[onnx.NodeProto]]:
    types = shapes.infer(model)
    makers = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    fixed = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        fixed.update(node.output if all(name in fixed for name in node.input if name) else ())
    best: tuple[str, str, list[onnx.NodeProto]] = ("", "", [])
    for end, last in makers.items():
        for start, first in makers.items():
            shape = types.get(start, (0, None))
            if not last - MOST < first < last - len(best[2]) or types.get(end) != shape or len(shape[1] or ()) < 3:
                continue
            found, pending, closed = set[int](), [end], True
            while pending and closed:
                name = pending.pop()
                if name != start and name not in fixed and makers.get(name) not in found:
                    closed = makers.get(name, -1) > first
                    found.add(makers.get(name, -1))
                    pending += [n for n in model.graph.node[makers.get(name, 0)].input if n]
            if closed and len(found) > len(best[2]):
                best = start, end, [model.graph.node[i] for i in sorted(found)]
    if not best[2]:
        raise ValueError("the network has no block of one input and one output of the same shape")
    return best


KINDS: Mapping[str, Callable[[int], onnx.ModelProto]] = {
    "backbone": backbone,
    "Identity": partial(chain, step=_op("Identity")),
    "Transpose": partial(chain, step=_op("Transpose", perm=[0, 1, 3, 2])),
    "Reshape": partial(chain, step=_reshape),
    "MaxPool": partial(chain, step=_op("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "Relu": partial(chain, step=_op("Relu")),
    "Sigmoid": partial(chain, step=_op("Sigmoid")),
    "Mul by a constant": partial(chain, step=_scaled),
    "SiLU": partial(chain, step=_gate),
    "AveragePool": partial(chain, step=_op("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "Softmax": partial(chain, step=_op("Softmax", axis=-1)),
    "Casts": partial(chain, step=_half),
    "pairs": partial(chain, step=lambda net, x: net.pair(x)),
    "paired MaxPool": partial(chain, step=_pooled),
    "residual Adds": partial(chain, step=_residual),
    "Add to itself": partial(chain, step=lambda net, x: net.node("Add", [x, net.node("Relu", [x])])),
    "normalizations": partial(chain, step=_norm),
    "softmax in nodes": partial(chain, step=_softmax),
    "long statistics": partial(chain, step=_statistic),
    "attention": partial(chain, step=_attention),
    "computed weights": _folded,
    "moved weights": _moved,
    "squared weights": _squared,
    "doubled scales": _doubled,
    "fan of convolutions": partial(fan, branch=lambda net, x: net.conv(x)),
    "fan of pairs": partial(fan, branch=lambda net, x: net.pair(x)),
    "fan of MaxPools": partial(fan, branch=_pooled),
    "fan of Relu": partial(fan, branch=lambda net, x: net.node("Relu", [x])),
    "fan of Transposes": partial(fan, branch=lambda net, x: net.conv(net.node("Transpose", [x], perm=[0, 1, 3, 2]))),
    "one Concat": partial(concat, deep=False),
    "deep Concats": partial(concat, deep=True),
    "tree of Concats": tree,
}
"""The kinds of graphs, each made by a function of the number of nodes."""
