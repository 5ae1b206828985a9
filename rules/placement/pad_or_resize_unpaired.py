"""QDQ210."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    Pair,
    PlacePair,
    Reader,
    Rule,
    Safety,
    input_name,
    key,
    move_at,
    move_of,
    pairs,
    sites,
)


class PadOrResizeUnpaired(Rule):
    """A layer reads a dequantized tensor through a Pad or Resize, without a pair downstream of it.

    Why: TensorRT-RTX does not move a DequantizeLinear over a Pad of zeros or a nearest Resize. It pads or resizes in
    floating point, and the layer computes in floating point too. A pair with the same scale downstream of the node
    changes no value, and moves before it as a whole: the layer runs in INT8. A Pad of spatial dimensions whose only
    consumer is one convolution of two or three spatial dimensions fuses with it and needs no second pair.
    Source: measured on TensorRT-RTX 1.7.1: benchmarks/rtx_experiments.py; NNCF and ESP-PPQ place one pair upstream of
    a Pad
    """

    code, name, safety = "QDQ210", "pad-or-resize-unpaired", Safety.EXACT

    examples = [
        Example(
            "two convolutions on one padded tensor",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,6,6] y, float[1,1,6,6] v)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    p = Pad (d, pads)
                    y = Conv (p, k)
                    v = Conv (p, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,6,6] y, float[1,1,6,6] v)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
                 int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    p = Pad (d, pads)
                    pq = QuantizeLinear (p, s, z)
                    pd = DequantizeLinear (pq, s, z)
                    y = Conv (pd, k)
                    v = Conv (pd, k)
                }""",
        ),
        Example(
            "a convolution after an upsampling, through other data movement",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,8,8] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float[4] scales = {1, 1, 2, 2}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    r = Resize <mode = "nearest"> (d, , scales)
                    t = Transpose <perm = [0, 1, 3, 2]> (r)
                    y = Conv (t, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,8,8] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float[4] scales = {1, 1, 2, 2}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    r = Resize <mode = "nearest"> (d, , scales)
                    rq = QuantizeLinear (r, s, z)
                    rd = DequantizeLinear (rq, s, z)
                    t = Transpose <perm = [0, 1, 3, 2]> (rd)
                    y = Conv (t, k)
                }""",
        ),
        Counterexample(
            "a Pad that fuses with its only consumer",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,6,6] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
             int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                p = Pad (d, pads)
                y = Conv (p, k)
            }""",
        ),
        Counterexample(
            "a floating-point convolution reads the resized tensor",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,8,8] y)
            <float s = {0.1}, int8 z = {0}, float[1,1,1,1] w = {0.64}, float[4] scales = {1, 1, 2, 2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                r = Resize <mode = "nearest"> (d, , scales)
                y = Conv (r, w)
            }""",
        ),
        Counterexample(
            "the tensor before the Pad has no pair",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4] x) => (float[1,1,6] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1] w = {64}, float sw = {0.01}, int64[6] pads = {0, 0, 2, 0, 0, 0}>
            {
                k = DequantizeLinear (w, sw, z)
                p = Pad (x, pads)
                q = QuantizeLinear (p, s, z)
                d = DequantizeLinear (q, s, z)
                y = Conv (d, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Pad", "Resize", "Upsample"):
            move = move_of(graph, node)
            copies = node.op == "Pad" and node.attrs.get("mode", "constant") != "constant"
            pair = None if move is None or copies else _dequantized(graph, move[0][0])
            if move is None or pair is None or _fuses(graph, node):
                continue
            tensor = move[1][0]
            readers = [use.reader for use in sites(graph).raw(tensor) if _in_int8(graph, use.reader)]
            if readers:
                yield self.finding(
                    node,
                    f"INT8 layers read '{tensor}' through {node.op}, over which TensorRT-RTX moves no DequantizeLinear",
                    help=f"place a pair with the scale of '{pair.site}' after the {node.op}",
                    bytes=4 * graph.elements(tensor),
                    edits=[PlacePair(tensor, tuple(reader.key for reader in readers), like=pair.site)],
                )


def _dequantized(graph: Graph, tensor: str) -> Pair | None:
    """Returns the pair whose dequantized values the tensor has, through data-movement ops; None if there is no such pair,
    or there are several with different scales."""
    pair = pairs(graph).made(tensor)
    while pair is None:
        node = graph.producer(tensor)
        move = move_of(graph, node) if node is not None else None
        if move is None:
            return None
        first, *rest = (pairs(graph).made(name) for name in move[0])
        if rest and (first is None or not all(p is not None and p.same_quantization(first) for p in rest)):
            return None
        pair, tensor = first, move[0][0]
    return pair if pair.tieable else None


def _in_int8(graph: Graph, reader: Reader) -> bool:
    """Returns whether an INT8 layer reads the value at this input, directly or through data-movement ops."""
    waiting = [reader]
    while waiting:
        node, index = (found := waiting.pop()).node, found.index
        if node.op in WEIGHTED and index < 2:
            if pairs(graph).made(input_name(node, 1 - index)) is not None:
                return True
        elif (move := move_at(graph, found)) is not None:
            waiting += [use.reader for made in move[1] for use in sites(graph).raw(made)]
    return False


def _fuses(graph: Graph, pad: Node) -> bool:
    """Returns whether a Pad fuses with its only consumer, a convolution of two or three spatial dimensions."""
    readers, shape = graph.readers(key(pad)), graph.shape(key(pad))
    if pad.op != "Pad" or len(readers) != 1 or key(pad) in graph.outputs or shape is None:
        return False
    return readers[0].node.op == "Conv" and readers[0].index == 0 and len(shape) in (4, 5) and _spatial(graph, pad)


def _spatial(graph: Graph, pad: Node) -> bool:
    """Returns whether a Pad leaves the first two dimensions alone, as far as its amounts are constants."""
    written = graph.array(name) if (name := input_name(pad, 1)) else pad.attrs.get("pads")
    if written is None or input_name(pad, 3):
        return False
    amounts = [int(amount) for amount in written]
    return not any(amount for i, amount in enumerate(amounts) if i % (len(amounts) // 2) < 2)
