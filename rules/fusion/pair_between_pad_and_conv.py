"""QDQ302."""

from collections.abc import Iterator

from qdqgraph import (
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    PlacePair,
    Rewire,
    Rule,
    Safety,
    key,
    moved,
    pairs,
    sites,
)


class PairBetweenPadAndConv(Rule):
    """A pair stands between a Pad with zeros and the convolution that could absorb it.

    Why: TensorRT folds a zero Pad into the convolution that follows; a pair between them keeps the Pad as a kernel.
    Zero is exactly representable, so the pair rounds alike in front of the Pad.
    Source: https://github.com/NVIDIA/TensorRT/issues/2592
    """

    code, name, safety = "QDQ302", "pair-between-pad-and-conv", Safety.EXACT

    examples = [
        Example(
            "the pair moves in front of the Pad",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,6,6] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
                {
                    k = DequantizeLinear (w, sw, z)
                    p = Pad (x, pads)
                    q = QuantizeLinear (p, s, z)
                    d = DequantizeLinear (q, s, z)
                    y = Conv (d, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,6,6] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
                {
                    qx = QuantizeLinear (x, s, z)
                    dx = DequantizeLinear (qx, s, z)
                    k = DequantizeLinear (w, sw, z)
                    p = Pad (dx, pads)
                    y = Conv (p, k)
                }""",
        ),
        Counterexample(
            "the Pad adds ones",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,6,6] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float one = {1}>
            {
                k = DequantizeLinear (w, sw, z)
                p = Pad (x, pads, one)
                q = QuantizeLinear (p, s, z)
                d = DequantizeLinear (q, s, z)
                y = Conv (d, k)
            }""",
        ),
        Counterexample(
            "something else reads the padded tensor",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,6,6] y, float[1,1,6,6] v)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
            {
                k = DequantizeLinear (w, sw, z)
                p = Pad (x, pads)
                q = QuantizeLinear (p, s, z)
                d = DequantizeLinear (q, s, z)
                y = Conv (d, k)
                v = Sigmoid (p)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        table = pairs(graph)
        for pad in graph.nodes("Pad"):
            move, made = moved(graph, pad), key(pad)
            if move is None or pad.attrs.get("mode", "constant") != "constant" or made in graph.outputs:
                continue
            uses = sites(graph).uses(made)
            source = move[0][0]
            convolutions = all(
                u.reader.node.op in WEIGHTED and u.pair is not None and u.pair.tensor == made for u in uses
            )
            bare = table.made(source) is None and not table.at(source) and len(table.at(made)) == 1
            if uses and convolutions and bare and not table.at(made)[0].pinned:
                edits: list[PlacePair | Rewire] = [
                    PlacePair(source, ((made, 0),), like=made),
                    *(Rewire(u.reader.key, made) for u in uses),
                ]
                yield self.finding(
                    pad,
                    f"a pair stands between the Pad and {len(uses)} convolution(s)",
                    help="move it in front of the Pad",
                    edits=edits,
                )
