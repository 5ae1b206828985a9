"""QDQ304."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Proposal,
    Rewire,
    Rule,
    Safety,
    Use,
    clips_negatives,
    gates_outside_blocks,
    key,
    normalizations,
    pairs,
    remove_pair,
    sites,
)


class PairInsideNormalization(Rule):
    """A Q/DQ pair is inside a normalization, a softmax or a GELU that is written as several nodes.

    Why: TensorRT runs the nodes of a normalization or a softmax as one float kernel, with the scale and the bias
    after it, and those of a GELU likewise. A pair inside saves no memory traffic: the kernel writes nothing there. It
    only rounds a mean, a variance or a sum to 8 bits, and every output depends on them; a variance close to zero
    becomes zero. The input of a normalization and its result may have pairs.
    When not: A pair that is also read outside, such as a mean that a second branch uses, stays for that reader.
    Source: measured on TensorRT-RTX 1.7.1: LayerNormalization, softmax and GELU between two INT8 MatMuls are one kernel
    with the same bytes, with and without pairs inside. Model Optimizer quantizes no part of them:
    https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/quantization/graph_utils.py
    """

    code, name, safety = "QDQ304", "pair-inside-normalization", Safety.LOSSY

    examples = [
        Example(
            "the variance of a LayerNormalization",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <float s = {0.1}, float t = {0.02}, int8 z = {0}, float two = {2}, float eps = {0.00001}>
                {
                    m = ReduceMean <axes = [-1]> (x)
                    c = Sub (x, m)
                    p = Pow (c, two)
                    v = ReduceMean <axes = [-1]> (p)
                    qv = QuantizeLinear (v, t, z)
                    dv = DequantizeLinear (qv, t, z)
                    e = Add (dv, eps)
                    r = Sqrt (e)
                    n = Div (c, r)
                    qn = QuantizeLinear (n, s, z)
                    y = DequantizeLinear (qn, s, z)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <float s = {0.1}, int8 z = {0}, float two = {2}, float eps = {0.00001}>
                {
                    m = ReduceMean <axes = [-1]> (x)
                    c = Sub (x, m)
                    p = Pow (c, two)
                    v = ReduceMean <axes = [-1]> (p)
                    e = Add (v, eps)
                    r = Sqrt (e)
                    n = Div (c, r)
                    qn = QuantizeLinear (n, s, z)
                    y = DequantizeLinear (qn, s, z)
                }""",
        ),
        Example(
            "the exponentials of a softmax and their sum",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <float s = {0.008}, float t = {0.06}, int8 z = {0}, int64[1] last = {-1}>
                {
                    m = ReduceMax <axes = [-1]> (x)
                    c = Sub (x, m)
                    e = Exp (c)
                    qe = QuantizeLinear (e, s, z)
                    de = DequantizeLinear (qe, s, z)
                    n = ReduceSum (de, last)
                    qn = QuantizeLinear (n, t, z)
                    dn = DequantizeLinear (qn, t, z)
                    y = Div (de, dn)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <int64[1] last = {-1}>
                {
                    m = ReduceMax <axes = [-1]> (x)
                    c = Sub (x, m)
                    e = Exp (c)
                    n = ReduceSum (e, last)
                    y = Div (e, n)
                }""",
        ),
        Example(
            "the normalized values before scale and bias",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <float s = {0.03}, int8 z = {0}, float two = {2}, float eps = {0.00001},
                 float[8] gain = {1, 2, 1, 2, 1, 2, 1, 2}, float[8] bias = {0, 1, 0, 1, 0, 1, 0, 1}>
                {
                    p = Pow (x, two)
                    v = ReduceMean <axes = [-1]> (p)
                    e = Add (v, eps)
                    r = Sqrt (e)
                    i = Reciprocal (r)
                    n = Mul (x, i)
                    qn = QuantizeLinear (n, s, z)
                    dn = DequantizeLinear (qn, s, z)
                    k = Mul (dn, gain)
                    y = Add (k, bias)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <float two = {2}, float eps = {0.00001},
                 float[8] gain = {1, 2, 1, 2, 1, 2, 1, 2}, float[8] bias = {0, 1, 0, 1, 0, 1, 0, 1}>
                {
                    p = Pow (x, two)
                    v = ReduceMean <axes = [-1]> (p)
                    e = Add (v, eps)
                    r = Sqrt (e)
                    i = Reciprocal (r)
                    n = Mul (x, i)
                    k = Mul (n, gain)
                    y = Add (k, bias)
                }""",
        ),
        Example(
            "a GELU after a bias, which no convolution block opens",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <float s = {0.02}, float u = {0.008}, int8 z = {0}, float[8] bias = {0, 1, 0, 1, 0, 1, 0, 1},
                 float root = {1.4142135}, float one = {1}, float half = {0.5}>
                {
                    a = Add (x, bias)
                    h = Div (a, root)
                    e = Erf (h)
                    qe = QuantizeLinear (e, u, z)
                    de = DequantizeLinear (qe, u, z)
                    f = Add (de, one)
                    m = Mul (a, f)
                    y = Mul (m, half)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] x) => (float[1,4,8] y)
                <float[8] bias = {0, 1, 0, 1, 0, 1, 0, 1},
                 float root = {1.4142135}, float one = {1}, float half = {0.5}>
                {
                    a = Add (x, bias)
                    h = Div (a, root)
                    e = Erf (h)
                    f = Add (e, one)
                    m = Mul (a, f)
                    y = Mul (m, half)
                }""",
        ),
        Counterexample(
            "the pairs of the input and of the result",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4,8] x) => (float[1,4,8] y)
            <float s = {0.1}, int8 z = {0}, float two = {2}, float eps = {0.00001}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                m = ReduceMean <axes = [-1]> (d)
                c = Sub (d, m)
                p = Pow (c, two)
                v = ReduceMean <axes = [-1]> (p)
                e = Add (v, eps)
                r = Sqrt (e)
                n = Div (c, r)
                qn = QuantizeLinear (n, s, z)
                y = DequantizeLinear (qn, s, z)
            }""",
        ),
        Counterexample(
            "a squeeze-and-excite gate: its mean passes convolutions, so each part may run in INT8",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float u = {0.008}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                m = GlobalAveragePool (x)
                q = QuantizeLinear (m, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                h = Sigmoid (c)
                qh = QuantizeLinear (h, u, z)
                dh = DequantizeLinear (qh, u, z)
                y = Mul (x, dh)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        gates = gates_outside_blocks(graph)
        if not gates and not normalizations(graph).nodes:
            return
        through: dict[int, list[Use]] = {}
        for site in dict.fromkeys(pair.site for pair in pairs(graph)):
            for use in sites(graph).uses(site):
                through.setdefault(id(use.pair), []).append(use)
        for pair in pairs(graph):
            if not pair.tieable or pair.quantize is None or pair.pinned:
                continue
            uses = through.get(id(pair), [])
            for inner, what in (
                ([u for u in uses if normalizations(graph).inside(u.reader)], "a normalization"),
                ([u for u in uses if u.reader.key in gates], "an activation"),
            ):
                if inner:
                    yield self.finding(
                        pair.nodes[0],
                        f"the pair on '{pair.tensor}' is inside {what} that is written as several nodes",
                        help=f"read '{pair.tensor}' unquantized",
                        edits=_unquantized(graph, pair, uses, inner),
                    )
                    break


def _unquantized(graph: Graph, pair: Pair, uses: list[Use], inner: list[Use]) -> list[Proposal]:
    """Returns the edits that let the inner readers read the pair's tensor as float; the pair stays for the others."""
    if len(inner) == len(uses) and not any(key(node) in graph.outputs for node in pair.dequantizes):
        return list(remove_pair(graph, pair))
    return [] if clips_negatives(graph, pair) else [Rewire(u.reader.key, pair.tensor) for u in inner]
