"""QDQ301."""

from collections.abc import Iterator

from qdqgraph import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Rewire,
    Rule,
    Safety,
    activation,
    key,
    opens_block,
    pairs,
    sites,
)


class PairInsideBlock(Rule):
    """A pair stands between a convolution, or its residual Add, and the BatchNormalization or activation behind.

    Why: TensorRT fuses Conv, BatchNormalization, residual Add and activation into one INT8 kernel only where nothing
    stands between; a pair there ends the kernel early and rounds twice.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    (placement recommendation 3), https://github.com/NVIDIA/TensorRT/issues/2383
    When not: where nothing behind the activation is quantized, removing the pair would leave the next layer float;
    such a pair is reported and stays.
    """

    code, name, safety = "QDQ301", "pair-inside-block", Safety.LOSSY

    examples = [
        Example(
            "between Conv and Relu, with another pair behind",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float t = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    qc = QuantizeLinear (c, t, z)
                    dc = DequantizeLinear (qc, t, z)
                    r = Relu (dc)
                    qr = QuantizeLinear (r, t, z)
                    y = DequantizeLinear (qr, t, z)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float t = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    r = Relu (c)
                    qr = QuantizeLinear (r, t, z)
                    y = DequantizeLinear (qr, t, z)
                }""",
        ),
        Example(
            "no pair behind the activation: reported only",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float t = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    qc = QuantizeLinear (c, t, z)
                    dc = DequantizeLinear (qc, t, z)
                    y = Relu (dc)
                }""",
        ),
        Counterexample(
            "the pair stands behind the activation",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float t = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                r = Relu (c)
                qr = QuantizeLinear (r, t, z)
                y = DequantizeLinear (qr, t, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if pair.tieable and pair.quantize is not None and not pair.pinned:
                yield from self._inside(graph, pair)

    def _inside(self, graph: Graph, pair: Pair) -> Iterator[Finding]:
        maker = graph.producer(pair.tensor)
        if maker is None or not opens_block(graph, maker):
            return
        uses = [u for u in sites(graph).uses(pair.site) if u.pair is pair]
        inner = [u for u in uses if u.reader.node.op == "BatchNormalization" or activation(graph, u.reader.node)]
        if not inner:
            return
        ends = {key(u.reader.node) for u in inner}
        behind = all(self._quantized_behind(graph, end) for end in ends)
        last = graph.node(min(ends))
        yield self.finding(
            pair.nodes[0],
            f"a pair stands between {maker.op} and {last.op} on '{pair.tensor}'",
            help=f"read '{pair.tensor}' bare" if behind else "move the pair behind the activation, with a scale for it",
            edits=[Rewire(u.reader.key, pair.tensor) for u in inner] if behind else [],
            cost=4 * graph.elements(pair.tensor),
        )

    def _quantized_behind(self, graph: Graph, tensor: str) -> bool:
        """Whether the block's end, reached through further element-wise steps, is quantized."""
        for _ in range(6):
            if pairs(graph).at(tensor) or tensor in sites(graph).wants:
                return True
            following = {key(r.node) for r in graph.readers(tensor) if activation(graph, r.node)}
            if len(following) != 1:
                return False
            tensor = following.pop()
        return False
