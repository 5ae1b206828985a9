"""QDQ203."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Move,
    PlacePair,
    Rule,
    Safety,
    Use,
    move_at,
    move_of,
    normalizations,
    only_quantized,
    pairs,
    sites,
)


class SharedTensorUnpaired(Rule):
    """A tensor with several consumers feeds INT8 layers unquantized, through Concat, MaxPool or data-movement ops.

    Why: The Q of every consumer is further downstream, so TensorRT does not detect that all of them need the same INT8
    tensor. It stores the tensor as float, or once per consumer, and pools it twice. One pair after the producer, with
    the scale that all consumers share, prevents this. The values stay the same: a downstream Q with the same scale
    does not round again. A consumer whose output stays float (a head, a graph output) still reads the tensor directly.
    Source: docs/tensorrt.md, measured on TensorRT-RTX 1.7.1 (a tensor read by Resize → Concat and by a second
    Concat; SPPF with pairs at the input of the first pool and after every pool: 3 pool kernels instead of 6).
    """

    code, name, safety = "QDQ203", "shared-tensor-unpaired", Safety.EXACT

    examples = [
        Example(
            "a convolution reads the tensor quantized, a Concat reads it unquantized",
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
            "two chained pools and a Concat: pairs at the input of the first pool and after every pool",
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
            "the Concat also feeds a float head, which must not read rounded values",
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
            "one consumer: TensorRT moves the downstream Q to the producer",
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
        table = pairs(graph)
        settled: set[str] = set()
        names = dict.fromkeys(
            name for node in graph.nodes() if (move := move_of(graph, node)) is not None for name in move[0]
        )
        for tensor in names:
            if table.made(tensor) or graph.is_constant(tensor):
                continue
            raw = [(u, move) for u in sites(graph).raw(tensor) if (move := _to_int8(graph, u)) is not None]
            if not raw or normalizations(graph).encloses(tensor):
                continue
            own = table.at(tensor)
            ways = sum(len(move[1]) for _, move in raw)
            if not own and ways < 2 and not _after_int8_pool(graph, tensor, settled):
                continue
            settled.add(tensor)
            ops = sorted(node.op for node in {id(u.reader.node): u.reader.node for u, _ in raw}.values())
            after = dict.fromkeys(made for _, move in raw for made in move[1])
            yield self.finding(
                graph.producer(tensor) or raw[0][0].reader.node,
                f"'{tensor}' feeds INT8 layers through {', '.join(ops)}, but "
                + ("not through its pair" if own else "has no pair"),
                help="let all its consumers read the pair" if own else "place one pair after its producer",
                edits=[PlacePair(tensor, tuple(u.reader.key for u, _ in raw), agree=(tensor, *after))],
                bytes=4 * graph.elements(tensor),
                place=tensor,
            )


def _after_int8_pool(graph: Graph, tensor: str, settled: set[str]) -> bool:
    """Returns whether a MaxPool produces the tensor from INT8; without a Q right after it, it would pool in float."""
    node = graph.producer(tensor)
    if node is None or node.op != "MaxPool":
        return False
    source = node.inputs[0].name
    return source in settled or pairs(graph).made(source) is not None


def _to_int8(graph: Graph, use: Use) -> Move | None:
    """Returns the data-movement op at this input if everything downstream of it ends in a Q, else None."""
    move = move_at(graph, use.reader)
    return move if move is not None and all(made in only_quantized(graph) for made in move[1]) else None
