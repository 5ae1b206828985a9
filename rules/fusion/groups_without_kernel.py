"""QDQ305."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety, missing_kernel, pairs


class GroupsWithoutKernel(Rule):
    """The target has no INT8 kernel for the channels of a convolution with groups.

    Why: In INT8, TensorRT takes four channels of a group at a time: NVIDIA documents that each group must have a
    multiple of 4 input channels and of 4 output channels. A depthwise convolution, with one input channel in each
    group, has kernels of its own; in TensorRT 8.6 they are missing for 6 channels, and the build ends with "Could not
    find any implementation for node".
    When not: The numbers of each target are in qdqgraph/targets. TensorRT 10 and 11 document the same rule for groups;
    for depthwise convolutions no such report is known. TensorRT-RTX 1.7.1 builds all of them in INT8.
    Source: https://github.com/NVIDIA/TensorRT/blob/release/8.6/include/NvInfer.h (IConvolutionLayer::setNbGroups),
    https://github.com/NVIDIA/TensorRT/issues/4060
    """

    code, name, safety = "QDQ305", "groups-without-kernel", Safety.MANUAL
    by_target = True

    examples = [
        Example(
            "two groups of three channels",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,6,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,3,1,1] w = {64, 32, 16, 8, 4, 2}, float sw = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv <group = 2> (d, k)
            }""",
        ),
        Counterexample(
            "two groups of four channels",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,8,4,4] x) => (float[1,8,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[8,4,1,1] w = {64, 32, 16, 8, 4, 2, 1, 0, 64, 32, 16, 8, 4, 2, 1, 0,
             64, 32, 16, 8, 4, 2, 1, 0, 64, 32, 16, 8, 4, 2, 1, 0}, float sw = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv <group = 2> (d, k)
            }""",
        ),
        Counterexample(
            "the convolution runs in float",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,6,4,4] x) => (float[1,2,4,4] y)
            <int8 z = {0}, int8[2,3,1,1] w = {64, 32, 16, 8, 4, 2}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                y = Conv <group = 2> (x, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        made = pairs(graph).made
        for node in graph.nodes("Conv", "ConvTranspose"):
            if made(node.inputs[0].name) is None or made(node.inputs[1].name) is None:
                continue
            if why := missing_kernel(graph, node):
                yield self.finding(node, f"the INT8 {why}", help="leave it in float, or pad its channels")
