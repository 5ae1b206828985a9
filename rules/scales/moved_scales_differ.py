"""QDQ103."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Tie, common_grid, scales_at

OTHER_RULES = frozenset({"Concat", "MaxPool"})


class MovedScalesDiffer(Rule):
    """Values are only moved, yet carry one scale before and another behind.

    Why: Reshape, Transpose, Flatten, Squeeze, Unsqueeze, Slice, Split, Gather, Expand, Tile, Identity, DepthToSpace,
    SpaceToDepth, nearest Resize and Pad with zeros or an edge mode keep every value. TensorRT moves Q and DQ across
    them, but two scales leave a DQ → Q between: the values are requantized, or moved as float.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    (Q/DQ propagation across commuting layers); Model Optimizer traces through the same operators,
    https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/quantization/ort_utils.py; for Resize
    https://github.com/NVIDIA/TensorRT/issues/2976.
    """

    code, name, safety = "QDQ103", "moved-scales-differ", Safety.LOSSY

    examples = [
        Example(
            "the two halves of a Split, one of them pooled",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,2,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s1 = {0.1}, float s2 = {0.12}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    a, b = Split <axis = 1> (x)
                    k = DequantizeLinear (w, sw, z)
                    qa = QuantizeLinear (a, s1, z)
                    da = DequantizeLinear (qa, s1, z)
                    y = Conv (da, k)
                    qb = QuantizeLinear (b, s2, z)
                    db = DequantizeLinear (qb, s2, z)
                    v = Conv (db, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,2,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s = {0.12}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    a, b = Split <axis = 1> (x)
                    k = DequantizeLinear (w, sw, z)
                    qa = QuantizeLinear (a, s, z)
                    da = DequantizeLinear (qa, s, z)
                    y = Conv (da, k)
                    qb = QuantizeLinear (b, s, z)
                    db = DequantizeLinear (qb, s, z)
                    v = Conv (db, k)
                }""",
        ),
        Counterexample(
            "a linear Resize makes new values: input and output keep their own scales",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,8,8] y)
            <float s = {0.1}, float t = {0.2}, int8 z = {0}, float[4] scales = {1, 1, 2, 2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                r = Resize <mode = "linear"> (d, , scales)
                qr = QuantizeLinear (r, t, z)
                y = DequantizeLinear (qr, t, z)
            }""",
        ),
        Counterexample(
            "padding with a number other than zero, which one scale may not hold",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,6,6] y)
            <float s = {0.1}, float t = {0.2}, int8 z = {0}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float value = {20}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                p = Pad (d, pads, value)
                qp = QuantizeLinear (p, t, z)
                y = DequantizeLinear (qp, t, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes():
            around = None if node.op in OTHER_RULES else common_grid(graph, node)
            if around:
                yield self.finding(
                    node,
                    f"{node.op} only moves values, which carry different scales: {scales_at(graph, around)}",
                    tie=Tie(around),
                    cost=4 * graph.elements(node.inputs[0].name),
                )
