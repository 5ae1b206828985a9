"""QDQ102."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Tie, common_grid, key, scales_at


class MaxPoolScalesDiffer(Rule):
    """Input and output of a MaxPool carry different scales.

    Why: MaxPool commutes with quantization, so TensorRT moves the Q behind it to its input. Another Q with another
    scale there makes it store the tensor twice and pool twice, or pool in float. Chains of pools (SPPF) need one
    scale from end to end.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    (Q/DQ propagation, proven there for MaxPool); NVIDIA's ResNet-18 engines, in which quantizing around the pool
    gives one INT8 Conv+Activation+Pool kernel:
    https://github.com/NVIDIA/TensorRT/tree/release/11.0/tools/experimental/trt-engine-explorer/examples/pytorch/resnet/A100
    """

    code, name, safety = "QDQ102", "maxpool-scales-differ", Safety.LOSSY

    examples = [
        Example(
            "a convolution reads the pool's input, another its output",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,2,2] v)
                <float s1 = {0.2}, float s2 = {0.15}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    qx = QuantizeLinear (x, s1, z)
                    dx = DequantizeLinear (qx, s1, z)
                    k = DequantizeLinear (w, sw, z)
                    y = Conv (dx, k)
                    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (dx)
                    qm = QuantizeLinear (m, s2, z)
                    dm = DequantizeLinear (qm, s2, z)
                    v = Conv (dm, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,2,2] v)
                <float s = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    qx = QuantizeLinear (x, s, z)
                    dx = DequantizeLinear (qx, s, z)
                    k = DequantizeLinear (w, sw, z)
                    y = Conv (dx, k)
                    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (dx)
                    qm = QuantizeLinear (m, s, z)
                    dm = DequantizeLinear (qm, s, z)
                    v = Conv (dm, k)
                }""",
        ),
        Counterexample(
            "only the output is quantized",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,2,2] y)
            <float s = {0.1}, int8 z = {0}>
            {
                m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
                q = QuantizeLinear (m, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pool in graph.nodes("MaxPool"):
            around = common_grid(graph, pool)
            if around:
                yield self.finding(
                    pool,
                    f"input and output of the MaxPool carry different scales: {scales_at(graph, around)}",
                    tie=Tie(around),
                    cost=4 * graph.elements(pool.inputs[0].name or key(pool)),
                )
