"""QDQ411."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Rule,
    Safety,
    Severity,
    attributes,
    input_name,
    key,
    label,
    make_constant,
    make_node,
    replace,
)


class OperatorInteger(Rule):
    """A convolution or matrix product computes INT32 from quantized integers, as written by dynamic quantization.

    Why: TensorRT has no ConvInteger, MatMulInteger or DynamicQuantizeLinear. The scale of the input is computed at run
    time, but TensorRT requires a constant: the repair removes the quantization of the input and keeps the weights
    quantized, so the layer runs in floating point. An Add after a convolution becomes its bias. If the scale is
    constant, the input keeps its pair.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md
    """

    code, name, safety = "QDQ411", "operator-integer", Safety.LOSSY
    severity = Severity.ERROR
    quantized = ("ConvInteger", "MatMulInteger")

    examples = [
        Example(
            "dynamic quantization of a matrix product",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {64, 32, 16, 8}, int8 zw = {0}, float sw = {0.01}>
            {
                q, s, z = DynamicQuantizeLinear (x)
                i = MatMulInteger (q, w, z, zw)
                f = Cast <to = 1> (i)
                m = Mul (s, sw)
                y = Mul (f, m)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {64, 32, 16, 8}, int8 zw = {0}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, zw)
                y = MatMul (x, k)
            }""",
        ),
        Example(
            "both operands dynamically quantized",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[2,2] a, float[2,2] b) => (float[2,2] y)
            {
                q, s, z = DynamicQuantizeLinear (a)
                r, t, u = DynamicQuantizeLinear (b)
                i = MatMulInteger (q, r, z, u)
                f = Cast <to = 1> (i)
                m = Mul (s, t)
                y = Mul (f, m)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[2,2] a, float[2,2] b) => (float[2,2] y)
            {
                y = MatMul (a, b)
            }""",
        ),
        Example(
            "a constant input scale",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, int8[1,1,1,1] w = {64}, int8 zw = {0}, float m = {0.03125}>
            {
                q = QuantizeLinear (x, s, z)
                i = ConvInteger (q, w, z, zw)
                f = Cast <to = 1> (i)
                y = Mul (f, m)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, int8[1,1,1,1] w = {64}, int8 zw = {0}, float sw = {0.25}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "the INT32 result is a graph output",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (int32[1,2] i)
            <int8[2,2] w = {64, 32, 16, 8}, int8 zw = {0}, float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                i = MatMulInteger (q, w, z, zw)
            }""",
        ),
        Counterexample(
            "weights with a DequantizeLinear",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {64, 32, 16, 8}, int8 zw = {0}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, zw)
                y = MatMul (x, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("ConvInteger", "MatMulInteger"):
            edit = _in_pairs(graph, node) or _unquantized(graph, node)
            reason = "" if edit is not None else _obstacle(graph, node)
            yield self.finding(
                node,
                f"TensorRT has no {node.op}" + (f", and no repair fits here: {reason}" if reason else ""),
                help="export the model with Q/DQ pairs"
                if edit is None
                else f"replace it by {node.op.removesuffix('Integer')} of dequantized values",
                edits=() if edit is None else [edit],
            )


def _obstacle(graph: Graph, node: Node) -> str:
    """Returns why the product cannot be replaced, with the place; the first obstacle downstream of it."""
    name = key(node)
    readers = graph.readers(name)
    if name in graph.outputs:
        return f"its INT32 result '{name}' is a graph output"
    for reader in readers:
        if reader.index < 0:
            return f"a subgraph of {label(reader.node)} reads its INT32 result '{name}'"
        if reader.node.op == "Add":
            (other, *_) = [t.name for t in reader.node.inputs if t.name != name] or [name]
            bias = "a constant" if graph.is_constant(other) else "a bias that is computed at run time"
            return f"{label(reader.node)} adds '{other}' to its INT32 result, {bias}"
        if reader.node.op != "Cast":
            return f"{label(reader.node)} reads its INT32 result '{name}'"
    if len(readers) != 1:
        return f"{len(readers)} Casts read its INT32 result '{name}'"
    real = key(readers[0].node)
    scaled = _sole_reader(graph, real, "Mul")
    if scaled is None:
        return f"its result '{real}' is not multiplied by its scales in one Mul"
    if graph.array(input_name(node, 1)) is None:
        return f"its weights '{input_name(node, 1)}' are not constant"
    source = graph.producer(input_name(node, 0))
    if source is None or source.op not in ("QuantizeLinear", "DynamicQuantizeLinear"):
        return f"no QuantizeLinear or DynamicQuantizeLinear produces its input '{input_name(node, 0)}'"
    factor = next((t.name for t in scaled.inputs if t.name != real), real)
    return f"'{factor}' is not the product of the scales of its input and of its weights"


def _in_pairs(graph: Graph, node: Node) -> Graft | None:
    """Returns a Conv or MatMul that replaces the nodes from the integers to the product with both scales."""
    source = graph.producer(node.inputs[0].name)
    cast = _sole_reader(graph, key(node), "Cast")
    product = None if cast is None else _sole_reader(graph, key(cast), "Mul")
    if (
        source is None
        or cast is None
        or product is None
        or source.op not in ("DynamicQuantizeLinear", "QuantizeLinear")
    ):
        return None
    factor = next(t.name for t in product.inputs if t.name != key(cast))
    dynamic = source.op == "DynamicQuantizeLinear"
    own_zero = source.outputs[2].name if dynamic else input_name(source, 2)
    if own_zero != (input_name(node, 2)):
        return None
    unread = [node, cast]
    if dynamic:
        scales = graph.producer(factor)
        operands = [] if scales is None or scales.op != "Mul" else [t.name for t in scales.inputs]
        if scales is None or source.outputs[1].name not in operands:
            return None
        operands.remove(source.outputs[1].name)
        scale, left = graph.array(operands[0]), source.inputs[0].name
        unread.append(scales)  # the DynamicQuantizeLinear is removed with its last consumer
    else:
        both, own = graph.array(factor), graph.value(source.inputs[1].name)
        if both is None or own is None or own.size != 1:
            return None
        scale, left = (both / own.reshape(())).astype(both.dtype), f"{key(product)}_input"
    if scale is None or not _by_channel(node, scale):
        return None
    return _written(graph, node, product, scale, left, None if dynamic else source, unread)


def _unquantized(graph: Graph, node: Node) -> Graft | None:
    """Returns the product of two dynamically quantized tensors as the product of their unquantized inputs."""
    sources = [graph.producer(t.name) for t in node.inputs[:2]]
    zeros = [t.name for t in node.inputs[2:4]]
    cast = _sole_reader(graph, key(node), "Cast")
    product = None if cast is None else _sole_reader(graph, key(cast), "Mul")
    if cast is None or product is None or any(s is None or s.op != "DynamicQuantizeLinear" for s in sources):
        return None
    both = [s for s in sources if s is not None]
    factor = graph.producer(next(t.name for t in product.inputs if t.name != key(cast)))
    scales = sorted(s.outputs[1].name for s in both)
    if zeros != [s.outputs[2].name for s in both] or factor is None or factor.op != "Mul":
        return None
    if sorted(t.name for t in factor.inputs) != scales:
        return None
    real = make_node(
        node.op.removesuffix("Integer"), [s.inputs[0].name for s in both], key(product), attributes(graph, node)
    )
    return replace([product], [real], unread=[node, cast, factor])


def _written(
    graph: Graph, node: Node, product: Node, scale: np.ndarray, left: str, quantize: Node | None, unread: list[Node]
) -> Graft | None:
    weights, zero_name = node.inputs[1].name, input_name(node, 3)
    zero_point, array = graph.value(zero_name) if zero_name else None, graph.array(weights)
    if array is None or (zero_name and zero_point is None):
        return None
    scale = scale.reshape(()) if scale.size == 1 else scale.reshape(-1)
    zero = np.zeros((), array.dtype) if zero_point is None else zero_point
    if scale.ndim == 0 and zero.size > 1:
        scale = np.full(zero.size, scale)
    zeros = np.broadcast_to(zero.reshape(()) if zero.size == 1 else zero.reshape(-1), scale.shape).astype(array.dtype)
    channels = 0 if node.op == "ConvInteger" else array.ndim - 1
    bias, added = _bias(graph, product, array) if node.op == "ConvInteger" else (None, None)
    name = key(product if added is None else added)
    nodes = [] if bias is None else [make_constant(f"{name}_bias", bias)]
    if quantize is not None:
        nodes.append(make_node("DequantizeLinear", [key(quantize), *(t.name for t in quantize.inputs[1:])], left))
    nodes += [
        make_constant(f"{name}_scale", scale),
        make_constant(f"{name}_zero_point", zeros),
        make_node(
            "DequantizeLinear",
            [weights, f"{name}_scale", f"{name}_zero_point"],
            f"{name}_weights",
            axis=channels if scale.ndim else None,
        ),
        make_node(
            node.op.removesuffix("Integer"),
            [left, f"{name}_weights", "" if bias is None else f"{name}_bias"],
            name,
            attributes(graph, node),
        ),
    ]
    return (
        replace([product], nodes, unread=unread)
        if added is None
        else replace([added], nodes, unread=[*unread, product])
    )


def _bias(graph: Graph, product: Node, weights: np.ndarray) -> tuple[np.ndarray, Node] | tuple[None, None]:
    """Returns the bias of a convolution, one value per output channel, and the downstream Add that contains it.

    TensorRT-RTX 1.7.1 does not build a 1-D convolution with one output channel followed by such an Add.
    """
    added = _sole_reader(graph, key(product), "Add")
    other = None if added is None else graph.array(next(t.name for t in added.inputs if t.name != key(product)))
    count = weights.shape[0]
    if added is None or other is None or other.size != count or weights.ndim < 3:
        return None, None
    along = (count, *(1,) * (weights.ndim - 2))
    return (other.reshape(-1), added) if other.shape in (along, (1, *along)) else (None, None)


def _by_channel(node: Node, scale: np.ndarray) -> bool:
    """Returns whether a scale is per-tensor, or per output channel: the last axis of a product, axis 1 of an image."""
    if scale.size == 1:
        return True
    axis = scale.ndim - 1 if node.op == "MatMulInteger" else 1 if scale.ndim >= 4 else 0
    return scale.shape[axis] == scale.size and (node.op == "MatMulInteger" or scale.ndim >= 3)


def _sole_reader(graph: Graph, tensor: str, op: str) -> Node | None:
    found = graph.readers(tensor)
    sole = len(found) == 1 and found[0].node.op == op and tensor not in graph.outputs
    return found[0].node if sole else None
