"""QDQ209."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    NodeInput,
    PlacePair,
    Rule,
    Safety,
    key,
    opens_block,
    pairs,
    pointwise,
    residuals,
    sites,
)


class SkipFunctionUnpaired(Rule):
    """The skip of a residual Add is an element-wise function that reads its input as float.

    Why: A normalization or a factor on the skip (RepVGG's identity branch, layer scale) fuses into the kernel of the
    Add, so the function's input is what memory stores: as float for the function, in addition to the INT8 copy for the
    convolutions. If the function reads the pair that the convolutions use, the tensor is stored once.
    Source: docs/tensorrt.md, measured on TensorRT-RTX 1.7.1 with RepVGG-A0: 5,396,000 to 1,933,856 bytes between blocks
    """

    code, name, safety = "QDQ209", "skip-function-unpaired", Safety.LOSSY

    examples = [
        Example(
            "a normalization on the skip",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 float[1] one = {1}, float[1] zero = {0}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    n = BatchNormalization (x, one, zero, zero, one)
                    a = Add (c, n)
                    q3 = QuantizeLinear (a, s3, z)
                    y = DequantizeLinear (q3, s3, z)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 float[1] one = {1}, float[1] zero = {0}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    n = BatchNormalization (d, one, zero, zero, one)
                    a = Add (c, n)
                    q3 = QuantizeLinear (a, s3, z)
                    y = DequantizeLinear (q3, s3, z)
                }""",
        ),
        Counterexample(
            "the output of the function has another consumer and is stored",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
            <float s = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float half = {0.5}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                n = Mul (x, half)
                v = Sigmoid (n)
                a = Add (c, n)
                q3 = QuantizeLinear (a, s3, z)
                y = DequantizeLinear (q3, s3, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        found: dict[str, list[tuple[Node, NodeInput]]] = {}
        for residual in residuals(graph):
            if key(residual.add) not in sites(graph).feeds:
                continue
            for side in residual.skips:
                known = side.pair is not None or side.fusible or side.site in sites(graph).covered
                source = None if known else _source(graph, side.tensor)
                if source is not None:
                    tensor, reader = source
                    found.setdefault(tensor, []).append((residual.add, reader))
        for tensor, uses in found.items():
            yield self.finding(
                uses[0][0],
                f"the skip of the residual Add is an element-wise function of '{tensor}' and reads it as float",
                help=f"read '{tensor}' through its pair",
                bytes=4 * graph.elements(tensor),
                edits=[PlacePair(tensor, tuple(reader for _, reader in uses))],
                place=tensor,
            )


def _source(graph: Graph, tensor: str) -> tuple[str, NodeInput] | None:
    """Returns the tensor with a known scale that `tensor` is a function of, and the input that reads it; or None."""
    for _ in range(4):
        node = graph.producer(tensor)
        if node is None or tensor in graph.outputs or len(graph.readers(tensor)) != 1:
            return None
        inner = node.inputs[0].name if node.op == "BatchNormalization" else pointwise(graph, node)
        if inner is None or pairs(graph).made(inner):
            return None
        producer = graph.producer(inner)
        if producer is not None and opens_block(graph, producer):
            return None  # the function is part of the convolution block
        if inner in sites(graph).covered:
            return inner, (key(node), [t.name for t in node.inputs].index(inner))
        tensor = inner
    return None
