"""Channels of convolutions with groups, and whether a target has an INT8 kernel for them."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from .graph import Graph, input_name

GROUPED = frozenset({"Conv", "ConvTranspose"})
"""Operators with groups; what others have as an attribute of that name means nothing."""


def groups_of(node: gs.Node) -> int:
    """The number of groups of a convolution; 1 for other nodes."""
    return max(1, int(node.attrs.get("group", 1))) if node.op in GROUPED else 1


def missing_kernel(graph: Graph, node: gs.Node) -> str:
    """Why the target of the graph has no INT8 kernel for a convolution: "depthwise convolution has 6 input and 6 output
    channels; TensorRT 8.6 needs multiples of 8"; "" if it has one, the node has no groups, or the shape of its weights
    is unknown. The numbers of each target are in qdqgraph/targets, with their sources.
    """
    groups = groups_of(node)
    shape = graph.shape(input_name(node, 1))
    if groups == 1 or shape is None or len(shape) < 2 or shape[0] is None or shape[1] is None:
        return ""
    ends = shape[0], shape[1] * groups
    inputs, outputs = ends if node.op == "ConvTranspose" else ends[::-1]
    if inputs == groups:
        multiple, counted = graph.target.depthwise_channels, (inputs, outputs)
        what = f"depthwise convolution has {inputs} input and {outputs} output channels"
    else:
        multiple, counted = graph.target.group_channels, (inputs // groups, outputs // groups)
        what = f"convolution has {counted[0]} input and {counted[1]} output channels in each group"
    if not any(count % multiple for count in counted):
        return ""
    return f"{what}; {graph.target.title} needs multiples of {multiple}"
