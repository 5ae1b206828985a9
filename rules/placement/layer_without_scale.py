"""QDQ208."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    CONVOLUTIONS,
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    PlacePair,
    Rule,
    Safety,
    activation,
    input_name,
    is_pair,
    key,
    missing_kernel,
    move_of,
    pairs,
    upstream,
)


class LayerWithoutScale(Rule):
    """A layer between INT8 layers runs in float, and the graph contains no scale for what it reads.

    Why: Attention multiplies activations by activations. Module-based quantizers (pytorch-quantization) do not quantize
    these products, so queries, keys and values are written and read as float between INT8 convolutions. A convolution
    with INT8 weights whose data is not quantized runs in float as well, and its neighbors convert for it. The inputs
    need pairs with calibrated scales, which the graph does not contain. A depthwise convolution is repaired on request
    (`--data --also QDQ208`): NNCF gives its data a scale per channel, which TensorRT refuses, and QDQ404 removes the
    pair because one scale is too coarse for some channels. One measured scale makes the layer INT8 and costs accuracy,
    11.6 dB on PP-LCNet and 2.7 dB on CenterFace.
    When not: A MatMul or Gemm with INT8 weights and float data is silent: TensorRT has kernels for it.
    Source: placement recommendation 1 ("quantize all inputs of weighted operations") in
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html;
    Model Optimizer quantizes the products, measured on YOLO11n and YOLOv10n in docs/measurements/placement.md;
    depthwise convolutions in INT8: NVIDIA's MobileNet v2 engine in
    https://github.com/NVIDIA/TensorRT/tree/release/11.0/tools/experimental/trt-engine-explorer/examples
    """

    code, name, safety = "QDQ208", "layer-without-scale", Safety.LOSSY

    examples = [
        Example(
            "a product of two convolution outputs",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    a = Conv (d, k)
                    b = Conv (d, k)
                    t = Transpose <perm = [0, 1, 3, 2]> (b)
                    y = MatMul (a, t)
                }""",
        ),
        Counterexample(
            "a linear layer: one operand is constant",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[4,4] w = {64, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = MatMul (d, k)
            }""",
        ),
        Counterexample(
            "the input projections of an attention: their weights are slices of one constant",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,2] x) => (float[1,1,4,2] y, float[1,1,4,2] z1)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float[4,2] both = {1, 2, 3, 4, 5, 6, 7, 8}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                a = Conv (d, k)
                first, second = Split <axis = 0> (both)
                t = Transpose <perm = [1, 0]> (first)
                u = Transpose <perm = [1, 0]> (second)
                y = MatMul (a, t)
                z1 = MatMul (a, u)
            }""",
        ),
        Example(
            "a depthwise convolution with INT8 weights after an INT8 convolution",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,2,4,4] x) => (float[1,2,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 1, 2, 3}, int8[2,1,1,1] v = {64, 32}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    r = Relu (c)
                    l = DequantizeLinear (v, sw, z)
                    y = Conv <group = 2> (r, l)
                }""",
        ),
        Counterexample(
            "its data is quantized before a MaxPool, which moves INT8",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,2,2] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] v = {64, 32}, float sw = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
                l = DequantizeLinear (v, sw, z)
                y = Conv <group = 2> (p, l)
            }""",
        ),
        Counterexample(
            "weights of 8 bits alone: no layer is in INT8",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <int8 z = {0}, int8[2,1,1,1] v = {64, 32}, float sw = {0.01}>
            {
                l = DequantizeLinear (v, sw, z)
                r = Relu (x)
                y = Conv <group = 2> (r, l)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        yield from self._products(graph)
        for node in graph.nodes(*CONVOLUTIONS):
            name = input_name(node, 0)
            if _weights_alone(graph, node) and _near_int8(graph, name):
                yield self.finding(
                    node,
                    f"{node.op} has INT8 weights, but reads '{name}' as float",
                    help=f"calibrate a quantizer for '{name}'",
                    bytes=4 * graph.elements(name),
                    place=key(node),
                    edits=[PlacePair(name, ((key(node), 0),), calibrate=True)],
                    safety=Safety.MANUAL if _depthwise(graph, node) else None,
                )

    def _products(self, graph: Graph) -> Iterator[Finding]:
        table = pairs(graph)
        for node in graph.nodes("MatMul"):
            names = [t.name for t in node.inputs]
            if any(graph.is_constant(n) or table.made(n) for n in names) or not any(
                _from_int8(graph, n) for n in names
            ):
                continue
            yield self.finding(
                node,
                f"the MatMul of the activations '{names[0]}' and '{names[1]}' runs in float",
                help=f"calibrate quantizers for '{names[0]}' and '{names[1]}'",
                bytes=4 * sum(graph.elements(n) for n in names),
                place=key(node),
                edits=[PlacePair(name, ((key(node), index),), calibrate=True) for index, name in enumerate(names)],
            )


def _from_int8(graph: Graph, tensor: str) -> bool:
    """Returns whether an INT8 layer produces the tensor, through data-movement ops and element-wise functions."""
    for _ in range(12):
        node = graph.producer(tensor)
        if node is None:
            return False
        if node.op in WEIGHTED:
            return pairs(graph).made(node.inputs[0].name) is not None
        move = move_of(graph, node)
        source = move[0][0] if move else activation(graph, node)
        if source is None:
            return False
        tensor = pairs(graph).root(source)
    return False


def _weights_alone(graph: Graph, node: Node) -> bool:
    """Returns whether a convolution that has an INT8 kernel has INT8 weights and unquantized data."""
    data, weights = input_name(node, 0), pairs(graph).made(input_name(node, 1))
    if weights is None or weights.kind != "weight" or weights.types[1] != "int8" or weights.blocked:
        return False
    able = node.op == "Conv" or graph.target.deconvolution_int8
    return able and not missing_kernel(graph, node) and not graph.is_constant(data) and not _dequantized(graph, data)


def _depthwise(graph: Graph, node: Node) -> bool:
    """Returns whether each group of a convolution has one input channel."""
    shape = graph.shape(input_name(node, 0)) or ()
    return len(shape) > 1 and node.attrs.get("group", 1) == shape[1] != 1


def _dequantized(graph: Graph, tensor: str) -> bool:
    """Returns whether a tensor has the values of a pair, also through data-movement ops."""
    while pairs(graph).made(tensor) is None:
        node = graph.producer(tensor)
        move = None if node is None else move_of(graph, node)
        if move is None:
            return False
        tensor = move[0][0]
    return True


def _near_int8(graph: Graph, tensor: str) -> bool:
    """Returns whether INT8 values reach a tensor, through operators without weights."""
    walk = upstream(graph, tensor, lambda node: node.op not in WEIGHTED and not is_pair(node))
    return any(is_pair(n) or (n.op in WEIGHTED and pairs(graph).made(input_name(n, 0)) is not None) for n in walk)
