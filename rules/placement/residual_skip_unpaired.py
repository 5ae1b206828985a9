"""QDQ201."""

from collections.abc import Iterator, Sequence

from qdqgraph.rulekit import (
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    PlacePair,
    Rule,
    Safety,
    Side,
    key,
    move_of,
    pairs,
    residuals,
    sites,
)


class ResidualSkipUnpaired(Rule):
    """The skip of a residual Add is read as float.

    Why: The fused Conv+Add+activation kernel writes the type of its residual input. With a float skip every block
    writes float, followed by a separate Q; with an INT8 skip the block reads and writes INT8. In NVIDIA's ResNet-18
    engines, quantized skips reduce 12 reformat layers to 3 and 1.096 ms to 0.731 ms. If neither operand ends a
    convolution block, both are skips. The new pair uses a scale that the graph contains for the tensor; if there is
    none, no pair is added. If a MaxPool or another data-movement op produces the tensor from INT8, its other consumers
    read the new pair too: with one consumer before the pair, TensorRT-RTX 1.7.1 pools in float and runs that consumer,
    a convolution, in float.
    Source: https://github.com/NVIDIA/TensorRT/blob/main/tools/pytorch-quantization/docs/source/tutorials/quant_resnet50.rst,
    https://docs.nvidia.com/deeplearning/tensorrt/tensorflow-quantization-toolkit/docs/docs/add_custom_qdq_cases.html,
    https://github.com/NVIDIA/TensorRT/tree/release/11.0/tools/experimental/trt-engine-explorer/examples/pytorch/resnet/A100
    """

    code, name, safety = "QDQ201", "residual-skip-unpaired", Safety.LOSSY

    examples = [
        Example(
            "a convolution reads the tensor quantized, the skip reads it as float",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    a = Add (c, x)
                    r = Relu (a)
                    q3 = QuantizeLinear (r, s3, z)
                    d3 = DequantizeLinear (q3, s3, z)
                    y = Conv (d3, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    a = Add (c, d)
                    r = Relu (a)
                    q3 = QuantizeLinear (r, s3, z)
                    d3 = DequantizeLinear (q3, s3, z)
                    y = Conv (d3, k)
                }""",
        ),
        Example(
            "a downsampling block: two unquantized convolutions, and no scale in the graph for the shorter path",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float s2 = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    q2 = QuantizeLinear (c, s2, z)
                    d2 = DequantizeLinear (q2, s2, z)
                    long = Conv (d2, k)
                    short = Conv (d, k)
                    a = Add (long, short)
                    q3 = QuantizeLinear (a, s3, z)
                    d3 = DequantizeLinear (q3, s3, z)
                    y = Conv (d3, k)
                }""",
        ),
        Counterexample(
            "the Add inside a GELU decomposed with Tanh: both operands are functions of one tensor",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float t = {0.05}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01},
             float three = {3}, float k = {0.044715}, float b = {0.79788}, float one = {1}, float half = {0.5}>
            {
                wd = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, wd)
                p = Pow (c, three)
                m = Mul (p, k)
                a = Add (c, m)
                n = Mul (a, b)
                h = Tanh (n)
                e = Add (h, one)
                f = Mul (c, e)
                g = Mul (f, half)
                qg = QuantizeLinear (g, t, z)
                y = DequantizeLinear (qg, t, z)
            }""",
        ),
        Counterexample(
            "the sum feeds a float head: a quantized skip would gain nothing",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                a = Add (c, x)
                y = Sigmoid (a)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for found in residuals(graph):
            unpaired = sorted((side for side in found.skips if side.pair is None), key=lambda side: side.tensor)
            if unpaired and key(found.add) in sites(graph).feeds:
                yield self._skips(graph, found.add, unpaired, "operand" if found.conv is None else "skip")

    def _skips(self, graph: Graph, add: Node, unpaired: Sequence[Side], word: str) -> Finding:
        """Returns one finding per Add. Operands with a known scale get their pair even if the others have no scale."""
        known = [side for side in unpaired if side.site in sites(graph).covered]
        unknown = [side for side in unpaired if side not in known]
        names = " and ".join(f"'{side.tensor}'" for side in unpaired)
        if unpaired[0].fusible:
            what = "both operands of the residual Add are unquantized convolutions"
            message = f"{what}; {names}, the shorter path, needs a pair"
        else:
            word, verb = (f"{word}s", "are") if len(unpaired) > 1 else (word, "is")
            message = f"the {word} {names} of the residual Add {verb} read as float"
        return self.finding(
            add,
            message,
            help=", ".join(
                [
                    *(f"read '{side.tensor}' through its pair" for side in known),
                    *(f"calibrate a quantizer for '{side.tensor}'" for side in unknown),
                ]
            ),
            bytes=4 * sum(graph.elements(side.tensor) for side in unpaired),
            edits=[_pair(graph, add, side, calibrate=not known) for side in known or unknown],
        )


def _pair(graph: Graph, add: Node, side: Side, calibrate: bool) -> PlacePair:
    """Returns the pair for one operand, also for its other consumers if a data-movement op produces it from INT8."""
    readers = [(key(add), side.index)]
    if _from_int8(graph, side.tensor):
        others = [use.reader for use in sites(graph).raw(side.tensor)]
        readers += [r.key for r in others if r.node.op in WEIGHTED and r.index == 0]
    return PlacePair(side.tensor, tuple(readers), calibrate=calibrate)


def _from_int8(graph: Graph, tensor: str) -> bool:
    """Returns whether a data-movement op produces the tensor from INT8 values."""
    node = graph.producer(tensor)
    move = move_of(graph, node) if node is not None else None
    return move is not None and any(pairs(graph).made(name) is not None for name in move[0])
