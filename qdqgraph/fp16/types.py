"""Assigns a type to every floating-point tensor, given the nodes that stay FP32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .net import FLOAT, HALF, REAL, Net, is_pair_node

Slot = tuple[int, int]
TypedName = tuple[str, int]
"""A tensor (by its source name) in one element type."""


@dataclass(frozen=True)
class Types:
    """The element type in which every floating-point tensor is produced, and those that its consumers need.

    Attributes:
        native: the type in which a tensor is produced, by name; constants are absent, as they exist in any type.
        wants: the type that each node input needs; absent if it accepts either.
        demands: the names that must exist in a given type: graph outputs, and tensors used by subgraphs.
    """

    native: Mapping[str, int]
    wants: Mapping[Slot, int]
    demands: Mapping[TypedName, tuple[str, ...]]


def typed(net: Net, stay: Mapping[int, str], *, keep_io: bool) -> Types:
    """Returns the types that follow from the nodes that stay FP32."""
    wants = {
        (i, j): kind
        for i in range(len(net.nodes))
        if i not in net.casts
        for j in range(len(net.nodes[i].input))
        if (kind := _wanted(net, stay, i, j))
    }
    native: dict[str, int] = {}
    for name in net.inputs:
        if net.is_real(name):
            mine = {wants[r] for r in net.readers.get(name, []) if r in wants}
            held = keep_io or name in net.captured or mine == {FLOAT}
            native[name] = net.types[name] if held else HALF
    demands: dict[TypedName, list[str]] = {}
    for position, node in enumerate(net.nodes):
        if position in net.casts or node.op_type == "Constant":
            continue
        for index, name in enumerate(node.output):
            if name and net.is_real(name):
                free = position not in stay and index in net.slots[position].outputs
                native[name] = HALF if free else net.types[name]
                if is_pair_node(node):
                    native[name] = _unpaired(net, position, wants, keep_io)
    for name in net.outputs:
        source = net.source(name)
        if source in native:
            declared = keep_io or name in net.captured
            demands.setdefault((source, net.types[name] if declared else native[source]), []).append(name)
    for name in sorted(net.captured):
        source = net.source(name)
        if source in native and name not in net.outputs:
            demands.setdefault((source, net.types[name]), []).append(name)
    return Types(native, wants, {tensor: tuple(found) for tensor, found in demands.items()})


def _wanted(net: Net, stay: Mapping[int, str], position: int, index: int) -> int:
    """Returns the type that a node input needs; 0 if it accepts either."""
    node, slots = net.nodes[position], net.slots[position]
    declared = net.types.get(node.input[index], 0)
    if declared not in REAL:
        return 0
    if position in net.scales:
        held = net.scales[position].half is not None
        if net.is_constant(net.source(node.input[0])) and index == 0:
            return declared
        computed = net.scales[position].exact is None or net.is_constant(net.source(node.input[index]))
        return declared if not held and (index == 0 or computed) else 0
    if position in stay or index not in slots.inputs:
        return declared
    return 0 if slots.follows else HALF


def _unpaired(net: Net, position: int, wants: Mapping[Slot, int], keep_io: bool) -> int:
    """Returns the first output type of a DequantizeLinear: FP16, unless its scale or all its consumers are FP32."""
    name = net.nodes[position].output[0]
    if net.scales[position].half is None:
        return net.types[name]
    found = {wants[r] for r in net.readers.get(name, []) if r in wants}
    if any(net.source(c) == name for c in net.captured):
        found.add(net.types[name])  # subgraphs keep their types
    elif any(net.source(o) == name for o in net.outputs):
        found.add(FLOAT if keep_io else HALF)
    return FLOAT if found == {FLOAT} else HALF
