"""QDQ203."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, PlacePair, Rule, Safety, Use, moved, pairs, sites


class SharedTensorUnpaired(Rule):
    """A tensor with several readers passes raw into Concat, MaxPool or a move that INT8 layers read in the end.

    Why: every reader's Q lies further down, so TensorRT cannot see that all of them want one INT8 tensor: it stores
    the tensor as float, or once for each reader, and pools it twice. One pair behind the producer, with the scale
    that all readers share, settles it. Rounding is the same as before: the later Q with the same scale changes
    nothing more. A reader whose own result stays float (a head, a graph output) keeps the raw tensor.
    Source: docs/tensorrt.md, measured on TensorRT-RTX 1.7.1 (a tensor read by Resize → Concat and by a second
    Concat; SPPF with pairs at the first pool's input and behind every pool: 3 pool kernels instead of 6).
    """

    code, name, safety = "QDQ203", "shared-tensor-unpaired", Safety.EXACT

    examples = [
        Example(
            "a convolution reads the tensor quantized, a Concat raw",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w1 = {64}, int8[1,2,1,1] w2 = {64, 32}, float sw = {0.01}>
                {
                    k1 = DequantizeLinear (w1, sw, z)
                    k2 = DequantizeLinear (w2, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    y = Conv (d, k1)
                    c = Concat <axis = 1> (x, x)
                    qc = QuantizeLinear (c, s, z)
                    dc = DequantizeLinear (qc, s, z)
                    v = Conv (dc, k2)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w1 = {64}, int8[1,2,1,1] w2 = {64, 32}, float sw = {0.01}>
                {
                    k1 = DequantizeLinear (w1, sw, z)
                    k2 = DequantizeLinear (w2, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    y = Conv (d, k1)
                    c = Concat <axis = 1> (d, d)
                    qc = QuantizeLinear (c, s, z)
                    dc = DequantizeLinear (qc, s, z)
                    v = Conv (dc, k2)
                }""",
        ),
        Example(
            "two chained pools into a Concat: pairs at the first pool's input and behind every pool",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,3,1,1] w = {64, 32, 16}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    a = Relu (x)
                    p1 = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)
                    p2 = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p1)
                    c = Concat <axis = 1> (a, p1, p2)
                    qc = QuantizeLinear (c, s, z)
                    dc = DequantizeLinear (qc, s, z)
                    y = Conv (dc, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,3,1,1] w = {64, 32, 16}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    a = Relu (x)
                    qa = QuantizeLinear (a, s, z)
                    da = DequantizeLinear (qa, s, z)
                    p1 = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (da)
                    q1 = QuantizeLinear (p1, s, z)
                    d1 = DequantizeLinear (q1, s, z)
                    p2 = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (d1)
                    q2 = QuantizeLinear (p2, s, z)
                    d2 = DequantizeLinear (q2, s, z)
                    c = Concat <axis = 1> (da, d1, d2)
                    qc = QuantizeLinear (c, s, z)
                    dc = DequantizeLinear (qc, s, z)
                    y = Conv (dc, k)
                }""",
        ),
        Counterexample(
            "the Concat also goes to a float head, which must not see rounded values",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v, float[1,2,4,4] head)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w1 = {64}, int8[1,2,1,1] w2 = {64, 32}, float sw = {0.01}>
            {
                k1 = DequantizeLinear (w1, sw, z)
                k2 = DequantizeLinear (w2, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Conv (d, k1)
                c = Concat <axis = 1> (x, x)
                qc = QuantizeLinear (c, s, z)
                dc = DequantizeLinear (qc, s, z)
                v = Conv (dc, k2)
                head = Sigmoid (c)
            }""",
        ),
        Counterexample(
            "one reader: TensorRT moves the later Q up to the producer by itself",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x, float[1,1,4,4] b) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                a = Relu (x)
                c = Concat <axis = 1> (a, b)
                q = QuantizeLinear (c, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        behind = graph.once(_leaves)
        table = pairs(graph)
        settled: set[str] = set()
        names = dict.fromkeys(name for node in graph.nodes() for t in node.inputs if (name := t.name))
        for tensor in names:
            if table.made(tensor) or graph.is_constant(tensor):
                continue
            raw = [u for u in sites(graph).raw(tensor) if _goes_to_int8(graph, u, behind)]
            own = table.at(tensor)
            readers = {id(u.reader.node) for u in raw}
            ways = sum(len(u.reader.node.outputs) if u.reader.node.op == "Split" else 1 for u in raw)
            if not raw or (not own and len(readers) < 2 and ways < 2 and not _behind_int8_pool(graph, tensor, settled)):
                continue
            node = graph.producer(tensor) or raw[0].reader.node
            agree = frozenset[str]().union(
                *(behind.get(t.name) or frozenset() for u in raw for t in u.reader.node.outputs)
            )
            size = graph.elements(tensor)
            settled.add(tensor)
            count = f"by {len(readers)} moves" if len(readers) > 1 else f"by {raw[0].reader.node.op}"
            count += " and quantized" if own else ""
            yield self.finding(
                node,
                f"'{tensor}' is read {count} towards INT8 layers, "
                + ("not all through its pair" if own else "without a pair of its own"),
                help="let all of them read one pair behind the producer",
                edits=[PlacePair(tensor, tuple(u.reader.key for u in raw), agree=tuple(sorted(agree | {tensor})))],
                cost=4 * size,
                place=tensor,
            )


def _behind_int8_pool(graph: Graph, tensor: str, settled: set[str]) -> bool:
    """Whether a MaxPool makes the tensor from INT8: without a Q of its own behind it, it would pool in float."""
    node = graph.producer(tensor)
    if node is None or node.op != "MaxPool":
        return False
    source = node.inputs[0].name
    return source in settled or pairs(graph).made(source) is not None


def _goes_to_int8(graph: Graph, use: Use, behind: dict[str, frozenset[str] | None]) -> bool:
    """Whether the reader moves values and everything behind it ends in a Q."""
    move = moved(graph, use.reader.node)
    return use.reader.index >= 0 and move is not None and use.tensor in move[0] and all(map(behind.get, move[1]))


def _leaves(graph: Graph) -> dict[str, frozenset[str] | None]:
    """For each tensor the sites through which its raw values reach a Q; None where some end in float instead."""
    table, found = pairs(graph), dict[str, frozenset[str] | None]()
    for node in reversed(graph.nodes()):
        for made in node.outputs:
            found[made.name] = _leaf(graph, made.name, found, bool(table.at(made.name)))
    return found


def _leaf(graph: Graph, tensor: str, found: dict[str, frozenset[str] | None], quantized: bool) -> frozenset[str] | None:
    leaves = {tensor} if quantized else set[str]()
    if tensor in graph.outputs:
        return None
    for use in sites(graph).raw(tensor):
        move = moved(graph, use.reader.node) if use.reader.index >= 0 else None
        if move is None or tensor not in move[0]:
            return None
        for made in move[1]:
            behind = found.get(made)
            if behind is None:
                return None
            leaves |= behind
    return frozenset(leaves) if leaves else None
