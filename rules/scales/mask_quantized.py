"""QDQ107."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    FLOAT_ONLY,
    Counterexample,
    Example,
    Finding,
    Graph,
    Mask,
    Pair,
    Reader,
    Rule,
    Safety,
    bits_lost,
    mask,
    move_at,
    normalizations,
    pairs,
    remove_pair,
    sites,
)

LARGEST = 128
"""The number of INT8 steps below zero."""


class MaskQuantized(Rule):
    """A pair quantizes values together with the mask that was written over some of them.

    Why: Attention writes a constant such as -10000 over masked scores, by Where or by Add, and Softmax turns it into
    zero. A pair after it has one scale for both. If calibration saw the constant, the scale is its size / 127 and the
    scores fall on a few steps, or on one: Softmax weighs all positions alike. If the range is that of the scores, the
    constant is clipped to a value that scores reach too, and masked positions keep a weight. Softmax runs in float, so
    it can read the masked scores unquantized. The outputs then change by as much as the pair distorted them: if the
    scores were lost, by far more than a rounding.
    When not: Another reader than a Softmax may need the pair for INT8. Such a pair is reported and kept: quantize the
    values before the mask instead. If the forecast counts more bytes without the pair, `fix` keeps it unless
    `--also QDQ107` requests the repair.
    Source: https://github.com/NVIDIA/TensorRT/issues/2616; Model Optimizer quantizes no Softmax:
    https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/quantization/graph_utils.py
    """

    code, name, safety = "QDQ107", "mask-quantized", Safety.LOSSY

    examples = [
        Example(
            "the range of the scores: the mask is clipped to -12.8",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,2,4,4] x, bool[1,1,4,4] hidden) => (float[1,2,4,4] y)
                <float s = {0.1}, int8 z = {0}, float lowest = {-10000}>
                {
                    m = Where (hidden, lowest, x)
                    q = QuantizeLinear (m, s, z)
                    d = DequantizeLinear (q, s, z)
                    y = Softmax (d)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,2,4,4] x, bool[1,1,4,4] hidden) => (float[1,2,4,4] y)
                <float lowest = {-10000}>
                {
                    m = Where (hidden, lowest, x)
                    y = Softmax (m)
                }""",
        ),
        Example(
            "the range of the mask, in a tensor that a convolution reads",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x, float[1,1,4,4] hidden) => (float[1,1,4,4] y)
                <float s = {80}, int8 z = {0}, float lowest = {-10000}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    b = Cast <to = 9> (hidden)
                    m = Where (b, lowest, x)
                    q = QuantizeLinear (m, s, z)
                    d = DequantizeLinear (q, s, z)
                    y = Conv (d, k)
                }""",
        ),
        Counterexample(
            "a pair before the mask",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x, float[1,1,4,4] hidden) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, float one = {1}, float lowest = {-10000}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                h = Sub (one, hidden)
                a = Mul (h, lowest)
                m = Add (d, a)
                y = Softmax (m)
            }""",
        ),
        Counterexample(
            "the mask alone: it has two values, and both are steps of its scale",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x, float[1,1,4,4] hidden) => (float[1,2,4,4] y)
            <float s = {80}, int8 z = {0}, float one = {1}, float lowest = {-10000}>
            {
                h = Sub (one, hidden)
                a = Mul (h, lowest)
                q = QuantizeLinear (a, s, z)
                d = DequantizeLinear (q, s, z)
                m = Add (x, d)
                y = Softmax (m)
            }""",
        ),
        Counterexample(
            "a bias, and a value that a pad could have",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x, bool[1,2,4,4] hidden) => (float[1,2,4,4] y)
            <float s = {0.5}, int8 z = {0}, float low = {-60}, float[1,2,1,1] bias = {-3, 4}>
            {
                a = Add (x, bias)
                m = Where (hidden, low, a)
                q = QuantizeLinear (m, s, z)
                d = DequantizeLinear (q, s, z)
                y = Relu (d)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            found = mask(graph, pair.tensor) if pair.tieable and pair.quantize is not None else None
            says = "" if found is None else _says(graph, pair, found)
            if found is None or not says:
                continue
            uses = [u for u in sites(graph).uses(pair.site) if u.pair is pair]
            free = uses and all(_float(graph, u.reader) for u in uses)
            yield self.finding(
                pair.nodes[0],
                f"the pair on '{pair.tensor}' quantizes '{found.data}' together with the mask {found.value:.4g}, {says}",
                help=f"read '{pair.tensor}' unquantized"
                if free
                else f"quantize '{found.data}' before the mask, and not '{pair.tensor}'",
                edits=remove_pair(graph, pair) if free else [],
            )


def _says(graph: Graph, pair: Pair, found: Mask) -> str:
    """Returns what the pair does to the mask or the values; "" if it does no harm to either."""
    if -found.value > (LARGEST + 0.5) * pair.value:
        return f"which it clips to {-LARGEST * pair.value:.4g}"
    if -found.value < LARGEST / 2 * pair.value:
        return ""
    own = pairs(graph).made(found.data)
    if own is not None and own.tieable:
        lost = bits_lost(pair.value, own.value)
        return f"whose scale {pair.value:.4g} leaves the values {lost:.1f} bits less than their own" if lost > 1 else ""
    return f"which makes its steps {pair.value:.4g} wide"


def _float(graph: Graph, reader: Reader) -> bool:
    """Returns whether only operators without an INT8 kernel read the value here, also after data movement."""
    pending, seen = [reader], set[tuple[str, int]]()
    while pending:
        reader = pending.pop()
        if reader.key in seen or reader.node.op in FLOAT_ONLY or normalizations(graph).computes(reader.node):
            continue
        seen.add(reader.key)
        move = move_at(graph, reader)
        following = [] if move is None else [r for made in move[1] for r in graph.readers(made)]
        if move is None or not following or any(made in graph.outputs for made in move[1]):
            return False
        pending += following
    return True
