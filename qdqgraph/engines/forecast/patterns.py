"""What the forecast recognizes at one node: the Pad upstream of a convolution, groups, a GELU by Tanh, averages."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_graphsurgeon as gs

from ...graph.channels import groups_of
from ...graph.graph import Graph, key
from ...graph.pair import pairs
from ...operators import LINEAR
from .propagation import passes, pools_int8, values

OTHER_TANH = frozenset({"Softplus", "Exp"})
"""Operators that Mish has beside its Tanh, and a GELU by Tanh has not."""


def is_linear(graph: Graph, node: gs.Node) -> bool:
    """Whether a node multiplies or shifts a tensor by a constant; a constant divided by a tensor is not linear."""
    data = [index for index, tensor in enumerate(node.inputs) if tensor.name and not graph.is_constant(tensor.name)]
    return node.op in LINEAR and len(data) == 1 and (node.op != "Div" or data == [0])


def grouped(core: gs.Node) -> bool:
    """Whether a convolution is depthwise: one input channel per group; assumed if the weight shape is unknown."""
    group = groups_of(core)
    weights = core.inputs[1].shape if len(core.inputs) > 1 else None
    return group > 1 and (weights is None or len(weights) < 2 or weights[1] == 1)


def is_tanh_gelu(nodes: Iterable[gs.Node]) -> bool:
    """Whether an activation is a GELU by Tanh, as one operator or written as several nodes."""
    listed = list(nodes)
    if len(listed) == 1:
        return bool(listed[0].op == "Gelu" and listed[0].attrs.get("approximate") == "tanh")
    found = {n.op for n in listed}
    return "Tanh" in found and not found & OTHER_TANH


def has_int8_pool(graph: Graph, node: gs.Node) -> bool:
    """Whether the target has an INT8 kernel for a node if it is a pool; true for every other node (R16, R17)."""
    window = graph.target.average_window
    if node.op != "AveragePool" or not window:
        return pools_int8(graph, node)
    plain = all(step == 1 for step in node.attrs.get("strides", ()))
    return plain and all(size == window for size in node.attrs.get("kernel_shape", ()))


def padding(graph: Graph, core: gs.Node) -> gs.Node | None:
    """The Pad that fuses with a convolution downstream (F8).

    It adds zeros along spatial dimensions, and the convolution alone reads it: without a pair between them, or with one
    where the target fuses over it.
    """
    if core.op != "Conv" or not core.inputs:
        return None
    table, name = pairs(graph), core.inputs[0].name
    pair = table.made(name)
    node = graph.producer(table.root(name))
    if node is None or node.op != "Pad" or node.attrs.get("mode", "constant") != "constant":
        return None
    uses = values(graph, key(node))
    if passes(graph, node) is None or len(uses) != 1 or uses[0].reader.node is not core or key(node) in graph.outputs:
        return None
    if not _spatial(graph, node):
        return None
    outer = table.made(node.inputs[0].name)
    if pair is None:
        return node
    alike = outer is None or outer.scale_key == pair.scale_key
    return node if graph.target.padding_over_pair and pair.tieable and alike else None


def _spatial(graph: Graph, pad: gs.Node) -> bool:
    """Whether a Pad adds to spatial dimensions only, and removes nothing."""
    amounts = graph.value(pad.inputs[1].name) if len(pad.inputs) > 1 else pad.attrs.get("pads")
    if amounts is None:
        return False
    listed = [int(a) for a in (amounts.tolist() if hasattr(amounts, "tolist") else amounts)]
    half = len(listed) // 2
    return min(listed) >= 0 and not any(a for i, a in enumerate(listed) if i % half < 2)
