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
    limits_activation,
    normalizations,
    opens_block,
    pairs,
    pointwise,
    self_gate,
    sites,
    splits_activation,
)


class PairInsideBlock(Rule):
    """A Q/DQ pair is inside a convolution block: before its BatchNormalization or activation, or inside the activation.

    Why: TensorRT fuses Conv, BatchNormalization, residual Add and activation into one INT8 kernel only if no pair
    separates them; a pair ends the kernel early and rounds twice. x * sigmoid(x) is one activation: exporters that
    quantize every operator place a pair on the sigmoid, inside it. HardSwish, HardSigmoid, GELU, Softplus, PReLU and
    others that are written as several nodes are one activation too, up to their constant factor. If no operator limits
    the gate f(x) of x * f(x), or a HardSigmoid, a Clip replaces the pair: exporters omit the Clip if the range of a
    pair has the same limits, so without the pair the result would be unlimited.
    When not: If nothing downstream of the activation is quantized, removing the pair would leave the next layer in
    float. Such a pair is reported and kept. So is a pair after which the kernel of the convolution ends anyway: without
    it, the convolution would write float.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    (placement recommendation 3), https://github.com/NVIDIA/TensorRT/issues/2383,
    https://github.com/NVIDIA/TensorRT/issues/3205. Measured on TensorRT-RTX 1.7.1: between two INT8 convolutions, each
    of 32 activations that are written as several nodes has the same kernels and bytes with and without pairs inside.
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
            "a pair between the product of a HardSwish and its division by six",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float t = {0.4}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 float three = {3}, float six = {6}, float low = {0}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    a = Add (c, three)
                    p = Clip (a, low, six)
                    m = Mul (c, p)
                    qm = QuantizeLinear (m, t, z)
                    dm = DequantizeLinear (qm, t, z)
                    h = Div (dm, six)
                    qh = QuantizeLinear (h, s, z)
                    y = DequantizeLinear (qh, s, z)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 float three = {3}, float six = {6}, float low = {0}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    a = Add (c, three)
                    p = Clip (a, low, six)
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
        Counterexample(
            "a factor for each channel after the activation is a layer of its own, as SmoothQuant writes it",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, float t = {0.2}, int8 z = {0}, int8[2,1,1,1] w = {64, 64}, float sw = {0.01},
             float[1,2,1,1] f = {1, 2}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv <group = 2> (d, k)
                r = Relu (c)
                qr = QuantizeLinear (r, t, z)
                dr = DequantizeLinear (qr, t, z)
                m = Mul (dr, f)
                qm = QuantizeLinear (m, s, z)
                y = DequantizeLinear (qm, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        gates = [found for product in graph.nodes("Mul") for found in self._on_gate(graph, product)]
        reported = {found.place for found in gates}
        for pair in pairs(graph):
            if _plain(pair) and pair.key not in reported:
                yield from self._inside(graph, pair)
        yield from gates

    def _inside(self, graph: Graph, pair: Pair) -> Iterator[Finding]:
        producer = graph.producer(pair.tensor)
        uses = [u for u in sites(graph).uses(pair.site) if u.pair is pair]
        if producer is None:
            return
        clip = False
        if opens_block(graph, producer):
            inner = [
                u
                for u in uses
                if not normalizations(graph).computes(u.reader.node)
                and (u.reader.node.op == "BatchNormalization" or activation(graph, u.reader.node))
            ]
        else:
            inner = uses if splits_activation(graph, pair) else []
            clip = limits_activation(graph, pair)
        if not inner:
            return
        ends = {key(u.reader.node) for u in inner}
        quantized = all(self._quantized_after(graph, end) for end in ends)
        last = graph.node(min(ends))
        yield self.finding(
            pair.nodes[0],
            f"the pair on '{pair.tensor}' separates {producer.op} from {last.op}",
            help=_help(pair, clip) if quantized else "move the pair after the activation and calibrate a scale for it",
            edits=[_unquantized(graph, pair, u.reader.key, clip) for u in inner] if quantized else [],
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
            yield self.finding(
                pair.nodes[0],
                f"the pair on '{pair.tensor}' is inside the activation that ends at '{key(product)}'",
                help=_help(pair, not limited) if quantized else "move the pair after the activation",
                edits=[_unquantized(graph, pair, reader, not limited)] if quantized else [],
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


def _help(pair: Pair, clip: bool) -> str:
    return f"read '{pair.tensor}' " + ("through a Clip to the range of the pair" if clip else "unquantized")


def _unquantized(graph: Graph, pair: Pair, reader: NodeInput, clip: bool) -> Graft | Rewire:
    """Returns the edit with which an input reads the pair's tensor, or a Clip of it to the pair's range."""
    if not clip:
        return Rewire(reader, pair.tensor)
    nodes = clip_nodes(graph, pair, f"{pair.tensor}_cut")
    assert nodes is not None, "a plain pair has one range"
    return insert_before(reader, nodes)


def _plain(pair: Pair) -> bool:
    return pair.tieable and pair.quantize is not None and not pair.pinned
