"""Selects the nodes that stay FP32, with a reason each; every other node becomes FP16.

Each reason is one function over the `Net`; a node gets the first one that applies. Evidence: docs/decisions/0010.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from ..graph.squares import sums_of_squares
from ..operators import (
    BEFORE_ROOT,
    DIVIDES,
    FACTORS,
    GUARDS,
    RESHAPES,
    SATURATES,
    SQUARES_INSIDE,
    WEIGHTED,
)
from .net import FLOAT, HALF, Net, is_pair_node
from .numbers import COUNTED, LARGEST, fault

Reasons = dict[int, str]
"""The reason why a node stays FP32, by node position."""

ROOTED = BEFORE_ROOT | {"Expand"}
"""Operators allowed between the guard of a divisor and the division."""
WHOLE = frozenset({TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64}) | {
    TensorProto.UINT64
}
"""Integer types with values that FP16 may not represent exactly."""


def chosen(net: Net, ranges: Mapping[str, float], skip: Sequence[str]) -> Reasons:
    """Returns the nodes that stay FP32; QuantizeLinear and DequantizeLinear only if `skip` names them.

    Args:
        net: the model.
        ranges: the largest measured magnitude of each tensor, by name.
        skip: globs on the names of nodes and of their outputs.
    """
    reasons: Reasons = {}
    rules: tuple[Callable[[], Iterator[tuple[int, str]]], ...] = (
        lambda: ((i, slots.fault) for i, slots in enumerate(net.slots) if slots.fault),
        lambda: _asked(net, skip),
        lambda: _islands(net),
        lambda: _measured(net, ranges),
        lambda: _constants(net, ranges),
        lambda: _sums_of_squares(net),
        lambda: _counting(net),
        lambda: _scaled(net),
        lambda: _between(net, reasons),
        lambda: _fills(net, reasons),
    )
    for rule in rules:
        for position, reason in list(rule()):
            reasons.setdefault(position, reason)
    return reasons


def movable(net: Net, position: int) -> bool:
    """Returns whether a node computes in FP32 and could compute in FP16; False for Q/DQ, which follow their tensors."""
    node, slots = net.nodes[position], net.slots[position]
    names = [node.input[i] for i in slots.inputs] + [node.output[i] for i in slots.outputs]
    computes = node.op_type != "Constant" and not is_pair_node(node) and not slots.follows
    return computes and any(net.types[name] == FLOAT for name in names)


def _asked(net: Net, skip: Sequence[str]) -> Iterator[tuple[int, str]]:
    for position, node in enumerate(net.nodes):
        names = [node.name, *node.output]
        glob = next((g for g in skip if any(fnmatch.fnmatchcase(n, g) for n in names)), None)
        if glob is not None and movable(net, position):
            yield position, f"requested by {glob!r}"


def _islands(net: Net) -> Iterator[tuple[int, str]]:
    """Yields FP32 regions that the file itself places between Casts from and to FP16: the exporter chose FP32 there."""
    parent = list(range(len(net.nodes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    mine = [i for i in range(len(net.nodes)) if movable(net, i)]
    inside, bordering = set(mine), set()
    for i in mine:
        node = net.nodes[i]
        for name in node.input:
            producer = net.producers.get(name)
            if producer in inside and net.types.get(name) == FLOAT:
                parent[root(i)] = root(producer)
            elif producer in net.casts and _is_computed_half(net, net.source(name)):
                bordering.add(i)
    for i in net.casts:
        producer, output = net.producers.get(net.nodes[i].input[0]), net.nodes[i].output[0]
        if producer in inside and net.types[output] == HALF and output not in net.outputs:
            bordering.add(producer)
    roots = {root(i) for i in bordering}
    yield from ((i, "the file runs it in FP32 between FP16 tensors") for i in mine if root(i) in roots)


def _is_computed_half(net: Net, name: str) -> bool:
    return net.types[name] == HALF and not net.is_constant(name) and name not in net.inputs


def _measured(net: Net, ranges: Mapping[str, float]) -> Iterator[tuple[int, str]]:
    for position, node in enumerate(net.nodes):
        if movable(net, position):
            for name in (*node.input, *node.output):
                if ranges.get(name, 0) > LARGEST:
                    yield position, f"{name!r} reaches {ranges[name]:.4g} on the data, beyond FP16's 65504"
                    break


def _constants(net: Net, ranges: Mapping[str, float]) -> Iterator[tuple[int, str]]:
    """Yields nodes with a constant that FP16 cannot represent, and downstream nodes that this affects.

    After a constant beyond FP16's range, the consumers of values that may exceed the range stay FP32. A divisor
    guarded by a constant that is too small (x + 1e-12) stays FP32 up to the division, because it would become zero.
    """
    wide: dict[str, str] = {}
    guarded: dict[str, str] = {}
    for position, node in enumerate(net.nodes):
        if not movable(net, position):
            continue
        reasons: dict[str, str] = {}
        for index in net.slots[position].inputs:
            name = net.source(node.input[index])
            if name in wide:
                reasons["wide" if node.op_type in RESHAPES else ""] = wide[name]
            elif name in guarded and node.op_type in DIVIDES:
                reasons[""] = guarded[name]
            elif name in guarded and node.op_type in ROOTED:
                reasons["guarded"] = guarded[name]
            elif (value := net.graph.value(name)) is not None:
                kind, text = _constant_fault(net, node, index, value)
                reasons.update({kind: f"its constant {name!r} {text}"} if text else {})
        yield from ((position, reason) for reason in list(reasons.values())[:1])
        for name in node.output:
            if "wide" in reasons and ranges.get(name, np.inf) > LARGEST:
                wide[name] = f"{name!r} may contain values beyond FP16's 65504"
            if "guarded" in reasons:
                guarded[name] = f"{name!r} would round to zero and is a divisor"


def _constant_fault(net: Net, node: NodeProto, index: int, value: np.ndarray) -> tuple[str, str]:
    """Returns the effect on the node's output ("wide", "guarded" or "") and why FP16 cannot represent the constant."""
    single = value.size == 1 and node.op_type in GUARDS
    factor = index in FACTORS.get(node.op_type, ())
    text = fault(value, additive=not (single or factor))
    if not text or ("beyond" in text and node.op_type in SATURATES and index):
        return "", ""
    if "beyond" in text:
        return ("" if node.op_type == "Div" and index else "wide"), text
    return ("guarded" if single else ""), text


def _sums_of_squares(net: Net) -> Iterator[tuple[int, str]]:
    """Yields x², its sum and the nodes up to the root: decomposed variances. x² overflows FP16 at |x| = 256.

    LayerNormalization and similar operators are not included: ONNX computes their first stage in FP32 (`stash_type`),
    as does TensorRT's normalization layer.
    """
    reason = "the sum of squares can overflow FP16 before the square root"
    for position, node in enumerate(net.nodes):
        if node.op_type in SQUARES_INSIDE and movable(net, position):
            yield position, reason
    for chain in sums_of_squares(net.graph):
        positions = [net.graph.position(node) for node in chain]
        if movable(net, positions[1]):
            yield from ((position, reason) for position in positions)


def _counting(net: Net) -> Iterator[tuple[int, str]]:
    """Yields arithmetic on values cast from integers: shapes, indices, grid coordinates."""
    reason = f"it computes with integers (shapes, indices), which FP16 represents exactly only up to {COUNTED}"
    counted: set[str] = set()
    for position, node in enumerate(net.nodes):
        if position in net.casts or net.slots[position].fault or node.op_type == "ConstantOfShape":
            if node.op_type in ("Range", "ConstantOfShape"):
                counted.update(n for n in node.output if net.is_real(n))
        elif node.op_type == "Cast" and net.slots[position].outputs and net.types.get(node.input[0]) in WHOLE:
            value = net.graph.value(node.input[0])
            if value is None or np.any(np.abs(value.astype(np.float64)) > COUNTED):
                counted.update(node.output)
                yield position, reason
        elif movable(net, position) and node.op_type not in WEIGHTED:
            read = [name for _, name in net.data(position)]
            if read and all(name in counted for name in read):
                counted.update(node.output)
                yield position, reason


def _scaled(net: Net) -> Iterator[tuple[int, str]]:
    """Yields INT8 layers after a scale that FP16 cannot represent: a Cast between DQ and layer would block INT8."""
    for position, held in net.scales.items():
        node = net.nodes[position]
        if (
            held.half is None
            and node.op_type == "DequantizeLinear"
            and net.types.get(node.input[0]) != TensorProto.INT32
        ):
            for reader in _weighted_readers(net, node.output[0]):
                yield reader, f"the scale of {node.output[0]!r} {held.fault}"


def _weighted_readers(net: Net, name: str) -> list[int]:
    """The layers with weights that read a tensor, also through views, and these views."""
    reached, pending = list[int](), [name]
    for tensor in pending:
        reached += [position for position, _ in net.readers.get(tensor, [])]
        pending += [net.nodes[p].output[0] for p, _ in net.readers.get(tensor, []) if net.nodes[p].op_type in RESHAPES]
    found: set[int] = set()
    for position in reversed(reached):
        node = net.nodes[position]
        after = net.readers.get(node.output[0], []) if node.op_type in RESHAPES else []
        if node.op_type in WEIGHTED or any(p in found for p, _ in after):
            found.add(position)
    return sorted(found)


def _between(net: Net, reasons: Reasons) -> Iterator[tuple[int, str]]:
    """Yields nodes surrounded by FP32 nodes and pairs only: FP16 would add Casts there and save nothing."""

    def free(position: int) -> bool:
        return is_pair_node(net.nodes[position]) or net.slots[position].follows

    def readers(position: int) -> set[int]:
        return {r for name in net.nodes[position].output for r, _ in net.readers.get(name, [])}

    def ends(position: int) -> bool:
        return any(net.source(o) in net.nodes[position].output for o in net.outputs)

    mine = {
        i
        for i, node in enumerate(net.nodes)
        if movable(net, i) and i not in reasons and node.op_type not in WEIGHTED and not free(i) and not ends(i)
    }
    changed = True
    while changed:
        changed = False
        for position in sorted(mine):
            producers = {net.producers.get(name, -1) for _, name in net.data(position)}
            computed = {i for i in producers if i < 0 or not is_pair_node(net.nodes[i])}
            stays = computed and all(i in mine or _stays(net, reasons, i) for i in computed)
            if not stays or not all(r in mine or r in reasons or free(r) for r in readers(position)):
                mine.discard(position)
                changed = True
    yield from ((i, "it is between nodes that stay FP32") for i in sorted(mine))


def _fills(net: Net, reasons: Reasons) -> Iterator[tuple[int, str]]:
    """Yields ConstantOfShape nodes with FP32 consumers only: FP16 would add a Cast to each."""
    for position, node in enumerate(net.nodes):
        readers = [r for r, _ in net.readers.get(node.output[0], [])] if node.op_type == "ConstantOfShape" else []
        if readers and movable(net, position) and all(r in reasons for r in readers):
            yield position, "all its consumers stay FP32"


def _stays(net: Net, reasons: Reasons, position: int) -> bool:
    return position in reasons and any(net.types.get(name) == FLOAT for name in net.nodes[position].output)
