"""QDQ301."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    UNBOUNDED,
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    NodeInput,
    Pair,
    Rewire,
    Rule,
    Safety,
    activation,
    clip_nodes,
    insert_before,
    key,
    normalizations,
    opens_block,
    pairs,
    pointwise,
    self_gate,
    sites,
)


class PairInsideBlock(Rule):
    """A Q/DQ pair is inside a convolution block: before its BatchNormalization or activation, or inside the activation.

    Why: TensorRT fuses Conv, BatchNormalization, residual Add and activation into one INT8 kernel only if no pair
    separates them; a pair ends the kernel early and rounds twice. x * sigmoid(x) is one activation: exporters that
    quantize every operator place a pair on the sigmoid, inside it. If no operator limits the gate f(x) of x * f(x), a
    Clip replaces the pair: exporters omit the Clip of a HardSwish if the range of a pair has the same limits, so
    without the pair the gate would be unlimited.
    When not: If nothing downstream of the activation is quantized, removing the pair would leave the next layer in
    float. Such a pair is reported and kept.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    (placement recommendation 3), https://github.com/NVIDIA/TensorRT/issues/2383,
    https://github.com/NVIDIA/TensorRT/issues/3205
    """

    code, name, safety = "QDQ301", "pair-inside-block", Safety.LOSSY

    examples = [
        Example(
            "a pair between Conv and Relu, and another after the Relu",
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
            "a pair on the gate of a SiLU",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float u = {0.00787}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    g = Sigmoid (c)
                    qg = QuantizeLinear (g, u, z)
                    dg = DequantizeLinear (qg, u, z)
                    m = Mul (c, dg)
                    qm = QuantizeLinear (m, s, z)
                    y = DequantizeLinear (qm, s, z)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    g = Sigmoid (c)
                    m = Mul (c, g)
                    qm = QuantizeLinear (m, s, z)
                    y = DequantizeLinear (qm, s, z)
                }""",
        ),
        Example(
            "a HardSwish without its Clip: the range of the pair is the limit of 6",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float t = {0.047244094}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 float three = {3}, float six = {6}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    a = Add (c, three)
                    r = Relu (a)
                    qa = QuantizeLinear (r, t, z)
                    da = DequantizeLinear (qa, t, z)
                    m = Mul (c, da)
                    h = Div (m, six)
                    qh = QuantizeLinear (h, s, z)
                    y = DequantizeLinear (qh, s, z)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 float three = {3}, float six = {6}, float low = {0}, float high = {6}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    a = Add (c, three)
                    r = Relu (a)
                    p = Clip (r, low, high)
                    m = Mul (c, p)
                    h = Div (m, six)
                    qh = QuantizeLinear (h, s, z)
                    y = DequantizeLinear (qh, s, z)
                }""",
        ),
        Example(
            "no pair after the activation: reported only",
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
            "the pair is after the activation",
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
            if _plain(pair):
                yield from self._inside(graph, pair)
        for product in graph.nodes("Mul"):
            yield from self._on_gate(graph, product)

    def _inside(self, graph: Graph, pair: Pair) -> Iterator[Finding]:
        producer = graph.producer(pair.tensor)
        if producer is None or not opens_block(graph, producer):
            return
        uses = [u for u in sites(graph).uses(pair.site) if u.pair is pair]
        inner = [
            u
            for u in uses
            if not normalizations(graph).computes(u.reader.node)
            and (u.reader.node.op == "BatchNormalization" or activation(graph, u.reader.node))
        ]
        if not inner:
            return
        ends = {key(u.reader.node) for u in inner}
        quantized = all(self._quantized_after(graph, end) for end in ends)
        last = graph.node(min(ends))
        yield self.finding(
            pair.nodes[0],
            f"the pair on '{pair.tensor}' separates {producer.op} from {last.op}",
            help=f"read '{pair.tensor}' unquantized"
            if quantized
            else "move the pair after the activation and calibrate a scale for it",
            edits=[Rewire(u.reader.key, pair.tensor) for u in inner] if quantized else [],
            bytes=4 * graph.elements(pair.tensor),
        )

    def _on_gate(self, graph: Graph, product: Node) -> Iterator[Finding]:
        """Yields a finding per pair on the path from x to f(x), if the product x * f(x) is the activation of a block.

        If no operator limits f(x), a Clip to its range replaces each pair; the tightest range is the limit.
        """
        x = self_gate(graph, product)
        opener = None if x is None else graph.producer(pairs(graph).root(x))
        if x is None or opener is None or not opens_block(graph, opener):
            return
        node, index = product, [t.name != x for t in product.inputs].index(True)
        found: list[tuple[Pair, NodeInput]] = []
        limited = False
        while node is not opener:
            tensor = node.inputs[index].name
            pair, site = pairs(graph).made(tensor), pairs(graph).root(tensor)
            if pair is not None and site != pairs(graph).root(x) and _plain(pair):
                found.append((pair, (key(node), index)))
            node = graph.node(site)
            limited = limited or (node is not opener and node.op not in UNBOUNDED)
            source = "" if node is opener else pointwise(graph, node)
            index = 0 if node is opener else [t.name for t in node.inputs].index(source)
        quantized = self._quantized_after(graph, key(product))
        for pair, reader in found:
            help = f"read '{pair.tensor}' " + ("unquantized" if limited else "through a Clip to the range of the pair")
            yield self.finding(
                pair.nodes[0],
                f"the pair on '{pair.tensor}' is inside the activation that ends at '{key(product)}'",
                help=help if quantized else "move the pair after the activation",
                edits=[Rewire(reader, pair.tensor) if limited else _clipped(graph, pair, reader)] if quantized else [],
                bytes=4 * graph.elements(pair.tensor),
            )

    def _quantized_after(self, graph: Graph, tensor: str) -> bool:
        """Returns whether the end of the block, reached through further element-wise operators, is quantized."""
        for _ in range(12):
            if pairs(graph).at(tensor) or tensor in sites(graph).wants:
                return True
            following = {key(r.node) for r in graph.readers(tensor) if activation(graph, r.node)}
            if len(following) != 1:
                return False
            tensor = following.pop()
        return False


def _clipped(graph: Graph, pair: Pair, reader: NodeInput) -> Graft:
    nodes = clip_nodes(graph, pair, f"{pair.tensor}_cut")
    assert nodes is not None, "a plain pair has one range"
    return insert_before(reader, nodes)


def _plain(pair: Pair) -> bool:
    return pair.tieable and pair.quantize is not None and not pair.pinned
