"""QDQ305."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Node, Rule, Safety, pairs


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
        target = graph.target
        for node in graph.nodes("Conv", "ConvTranspose"):
            groups = int(node.attrs.get("group", 1))
            channels = _channels(graph, node, groups)
            if channels is None or groups == 1:
                continue
            inputs, outputs = channels
            if inputs == groups:
                multiple, counted = target.depthwise_channels, (inputs, outputs)
                what = f"depthwise convolution has {inputs} input and {outputs} output channels"
            else:
                multiple, counted = target.group_channels, (inputs // groups, outputs // groups)
                what = f"convolution has {counted[0]} input and {counted[1]} output channels in each group"
            if any(count % multiple for count in counted):
                yield self.finding(
                    node,
                    f"the INT8 {what}; {target.title} needs multiples of {multiple}",
                    help="leave it in float, or pad its channels",
                )


def _channels(graph: Graph, node: Node, groups: int) -> tuple[int, int] | None:
    """Returns the numbers of input and output channels of a convolution whose input and weights are quantized."""
    made = pairs(graph).made
    if made(node.inputs[0].name) is None or made(node.inputs[1].name) is None:
        return None
    shape = graph.shape(node.inputs[1].name)
    if shape is None or shape[0] is None or shape[1] is None:
        return None
    first, second = shape[0], shape[1] * groups
    return (second, first) if node.op == "Conv" else (first, second)
