"""QDQ101."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Tie, common_grid, key, scales_at


class ConcatScalesDiffer(Rule):
    """Inputs and output of a Concat carry different scales.

    Why: TensorRT moves the Q behind a Concat onto each of its inputs. An input that already ends in DQ then meets
    that Q: DQ(s_in) → Q(s_out) vanishes only when both scales are equal, else the branch is requantized by a kernel
    of its own. An input that another Q reads with another scale is stored twice, or as float.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html,
    https://github.com/NVIDIA/TensorRT/issues/2597 (the clones in a build log), and NVIDIA's YOLOv7 guide: 180 to
    207 images/s after matching,
    https://github.com/NVIDIA-AI-IOT/yolo_deepstream/blob/main/yolov7_qat/doc/Guidance_of_QAT_performance_optimization.md
    When not: where one branch has a much smaller range it loses resolution; the guard refuses such a tie.
    """

    code, name, safety = "QDQ101", "concat-scales-differ", Safety.LOSSY

    examples = [
        Example(
            "a branch that a convolution reads with a scale of its own",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] a, float[1,1,4,4] b) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s1 = {0.1}, float s2 = {0.15}, int8 z = {0}, int8[1,1,1,1] w1 = {64}, int8[1,2,1,1] w2 = {64, 32}, float sw = {0.01}>
                {
                    qa = QuantizeLinear (a, s1, z)
                    da = DequantizeLinear (qa, s1, z)
                    k1 = DequantizeLinear (w1, sw, z)
                    v = Conv (da, k1)
                    c = Concat <axis = 1> (da, b)
                    qc = QuantizeLinear (c, s2, z)
                    dc = DequantizeLinear (qc, s2, z)
                    k2 = DequantizeLinear (w2, sw, z)
                    y = Conv (dc, k2)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] a, float[1,1,4,4] b) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s = {0.15}, int8 z = {0}, int8[1,1,1,1] w1 = {64}, int8[1,2,1,1] w2 = {64, 32}, float sw = {0.01}>
                {
                    qa = QuantizeLinear (a, s, z)
                    da = DequantizeLinear (qa, s, z)
                    k1 = DequantizeLinear (w1, sw, z)
                    v = Conv (da, k1)
                    c = Concat <axis = 1> (da, b)
                    qc = QuantizeLinear (c, s, z)
                    dc = DequantizeLinear (qc, s, z)
                    k2 = DequantizeLinear (w2, sw, z)
                    y = Conv (dc, k2)
                }""",
        ),
    ]
    examples += [
        Counterexample(
            "the scales agree",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] a, float[1,1,4,4] b) => (float[1,2,4,4] y)
            <float s = {0.1}, float t = {0.1}, int8 z = {0}>
            {
                qa = QuantizeLinear (a, s, z)
                da = DequantizeLinear (qa, s, z)
                c = Concat <axis = 1> (da, b)
                qc = QuantizeLinear (c, t, z)
                y = DequantizeLinear (qc, t, z)
            }""",
        ),
        Counterexample(
            "the result goes to a float head, and one branch is float: nothing would run in INT8",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] a, float[1,1,4,4] b) => (float[1,2,4,4] y, float[1,1,4,4] v)
            <float s = {0.1}, int8 z = {0}>
            {
                qa = QuantizeLinear (a, s, z)
                v = DequantizeLinear (qa, s, z)
                c = Concat <axis = 1> (v, b)
                y = Sigmoid (c)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for concat in graph.nodes("Concat"):
            around = common_grid(graph, concat)
            if around:
                yield self.finding(
                    concat,
                    f"inputs and output of the Concat carry different scales: {scales_at(graph, around)}",
                    tie=Tie(around),
                    cost=4 * graph.elements(key(concat)),
                )
