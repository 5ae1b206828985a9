"""QDQ208."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    PlacePair,
    Rule,
    Safety,
    activation,
    key,
    move_of,
    pairs,
)


class MatmulWithoutScale(Rule):
    """A MatMul of two activations between INT8 layers runs in float, and the graph contains no scales for it.

    Why: Attention multiplies activations by activations. Module-based quantizers (pytorch-quantization) do not quantize
    these products, so queries, keys and values are written and read as float between INT8 convolutions. Both operands
    need pairs with calibrated scales, which the graph does not contain.
    Source: placement recommendation 1 ("quantize all inputs of weighted operations") in
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html;
    Model Optimizer quantizes them, measured on YOLO11n and YOLOv10n in docs/measurements/placement.md
    """

    code, name, safety = "QDQ208", "matmul-without-scale", Safety.LOSSY

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
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
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
