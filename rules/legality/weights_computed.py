"""QDQ425."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    Reader,
    Rule,
    Safety,
    Severity,
    fold_integers,
    fold_moved,
    label,
    pairs,
)


class WeightsComputed(Rule):
    """Weights are computed from constants.

    Why: Exporters leave weight norm, a folded BatchNormalization, W + B·A of LoRA, or a second quantization in the graph.
    TensorRT-RTX computes and quantizes such weights again in every run; it runs a layer in float if its dequantized
    weights are then selected, padded or negated, and refuses the graph if they are concatenated, or if an operator lies
    between stored integers and their DequantizeLinear. The repair stores the integers. It is exact if every operator upstream moves, compares or rounds once; a norm or a MatMul adds many
    products, so an integer may differ by one from what another implementation computes. Weights that TensorRT keeps in
    INT8 stay as they are, such as dequantized weights times one factor for each output channel.
    When not: You want to change the operands later, such as LoRA factors.
    Source: measured on TensorRT-RTX 1.7.1, https://github.com/microsoft/nni/issues/3911
    """

    code, name, safety = "QDQ425", "weights-computed", Safety.EXACT

    examples = [
        Example(
            "the quantized product of two constants",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, float[2,1,1,1] v = {0.5, 0.25}, float[2,1,1,1] gain = {2, 1},
             float[2] sw = {0.01, 0.002}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                w = Mul (v, gain)
                i = QuantizeLinear <axis = 0> (w, sw, zw)
                k = DequantizeLinear <axis = 0> (i, sw, zw)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, float[2] sw = {0.01, 0.002}, int8[2] zw = {0, 0}, int8[2,1,1,1] i = {100, 125}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (i, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "weights that are quantized twice",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float s2 = {0.02}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                i = QuantizeLinear (k, s2, z)
                again = DequantizeLinear (i, s2, z)
                y = Conv (d, again)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, float s2 = {0.02}, int8[1,1,1,1] i = {32}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                again = DequantizeLinear (i, s2, z)
                y = Conv (d, again)
            }""",
        ),
        Example(
            "dequantized weights that are concatenated: each keeps its scale",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w1 = {64}, int8[1,1,1,1] w2 = {-8}, float s1 = {0.01}, float s2 = {0.5}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k1 = DequantizeLinear (w1, s1, z)
                k2 = DequantizeLinear (w2, s2, z)
                k = Concat <axis = 0> (k1, k2)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, -8}, float[2] sw = {0.01, 0.5}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "stored integers that are transposed before their DequantizeLinear",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,2,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                t = Transpose <perm = [1, 0, 2, 3]> (w)
                k = DequantizeLinear <axis = 0> (t, sw, zw)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] t = {64, 32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (t, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Counterexample(
            "dequantized weights times one factor for each output channel",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0},
             float[2,1,1,1] gain = {2, 3}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                m = Mul (k, gain)
                y = Conv (d, m)
            }""",
        ),
        Counterexample(
            "weights that are only transposed",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, float[1,2,1,1] w = {0.5, 0.25}, float[2] sw = {0.01, 0.002}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                t = Transpose <perm = [1, 0, 2, 3]> (w)
                i = QuantizeLinear <axis = 0> (t, sw, zw)
                k = DequantizeLinear <axis = 0> (i, sw, zw)
                y = Conv (d, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            edit = fold_integers(graph, pair)
            if edit is not None:
                exact = graph.is_reproducible(pair.tensor)
                yield self.finding(
                    pair.nodes[0],
                    f"the weights '{pair.tensor}' are computed from constants, then quantized",
                    help="store the integers"
                    + ("" if exact else "; the last bit of the weights depends on the summation"),
                    edits=[edit],
                    safety=Safety.EXACT if exact else Safety.LOSSY,
                )
        done: set[str] = set()
        for node in graph.nodes(*sorted(WEIGHTED)):
            for index, tensor in enumerate(node.inputs[:2]):
                moved = None if tensor.name in done else fold_moved(graph, Reader(node, index))
                if moved is not None:
                    done.add(tensor.name)
                    joined = graph.node(tensor.name).op == "Concat"
                    yield self.finding(
                        graph.node(tensor.name),
                        f"{label(graph.node(tensor.name))} moves the dequantized weights of {label(node)}"
                        + ("; TensorRT refuses a Concat of them" if joined else "; TensorRT runs it in float"),
                        help="store the moved integers, with the same values",
                        severity=Severity.ERROR if joined else None,
                        edits=[moved],
                    )
