"""Which nodes stay FP32, and why. Everything else becomes FP16: that is where the time and the memory are.

Each reason is one function over the `Net`; a node keeps the first that speaks. docs/decisions/0010 has the evidence.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from ..graph.operators import RESHAPES, WEIGHTED
from .net import FLOAT, HALF, Net, is_pair_node
from .numbers import COUNTED, LARGEST, fault

Reasons = dict[int, str]
"""Why a node stays FP32, by its position."""

SQUARES_INSIDE = frozenset({"ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "LpNormalization", "LpPool"}) | {
    "GlobalLpPool",
    "MeanVarianceNormalization",
}
"""Operators whose intermediate sums of squares or exponentials leave FP16's range where inputs and outputs do not.

LayerNormalization and its kin are not among them: ONNX computes their first stage in FP32 (`stash_type`), as TensorRT's
normalization layer does.
"""
REDUCES = frozenset({"ReduceMean", "ReduceSum", "GlobalAveragePool"})
BEFORE_ROOT = frozenset({"Add", "Sqrt", "Reciprocal", "Pow", "Clip", "Max", "Mul", "Div"}) | RESHAPES
"""What may follow a sum of squares up to its root, with constants alone beside it."""
DIVIDES = frozenset({"Div", "Reciprocal", "Log", "Pow"})
SATURATING = frozenset({"Clip", "Min", "Max"})
"""Operators whose constants may be cut to FP16's range: no FP16 number lies beyond."""
FACTORS: Mapping[str, tuple[int, ...]] = {
    "Mul": (0, 1),
    "Div": (0, 1),
    "Pow": (1,),
    "PRelu": (1,),
    "MatMul": (0, 1),
    "Gemm": (0, 1),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "BatchNormalization": (1, 4),
    "InstanceNormalization": (1,),
    "LayerNormalization": (1,),
    "GroupNormalization": (1,),
}
"""Inputs whose relative error is the result's. A constant that is added may vanish: it would vanish in the sum."""
GUARDS = frozenset({"Add", "Max", "Clip"})
"""Operators whose small single constant keeps a number from zero before something divides by it."""
WHOLE = frozenset({TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64}) | {
    TensorProto.UINT64
}
"""Integer types whose numbers FP16 may not hold."""


def chosen(net: Net, ranges: Mapping[str, float], skip: Sequence[str]) -> Reasons:
    """The nodes that stay FP32. QuantizeLinear and DequantizeLinear are among them only where asked for by name.

    Args:
        net: the model.
        ranges: largest magnitude seen in a tensor, where measured.
        skip: globs on the names of nodes and of the tensors they make.
    """
    reasons: Reasons = {}
    rules: tuple[Callable[[], Iterator[tuple[int, str]]], ...] = (
        lambda: ((i, form.fault) for i, form in enumerate(net.forms) if form.fault),
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
    """Whether a node computes in FP32 and could in FP16; pairs take the type that is around them."""
    node, form = net.nodes[position], net.forms[position]
    names = [node.input[i] for i in form.reads] + [node.output[i] for i in form.makes]
    computes = node.op_type != "Constant" and not is_pair_node(node) and not form.follows
    return computes and any(net.types[name] == FLOAT for name in names)


def _asked(net: Net, skip: Sequence[str]) -> Iterator[tuple[int, str]]:
    for position, node in enumerate(net.nodes):
        names = [node.name, *node.output]
        glob = next((g for g in skip if any(fnmatch.fnmatchcase(n, g) for n in names)), None)
        if glob is not None and movable(net, position):
            yield position, f"asked for by {glob!r}"


def _islands(net: Net) -> Iterator[tuple[int, str]]:
    """FP32 regions that the file itself puts between Casts from and to FP16: somebody found that they need it."""
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
            made = net.producers.get(name)
            if made in inside and net.types.get(name) == FLOAT:
                parent[root(i)] = root(made)
            elif made in net.casts and _is_computed_half(net, net.source(name)):
                bordering.add(i)
    for i in net.casts:
        made = net.producers.get(net.nodes[i].input[0])
        if made in inside and net.types[net.nodes[i].output[0]] == HALF and net.nodes[i].output[0] not in net.outputs:
            bordering.add(made)
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
    """Nodes with a constant that FP16 does not hold; readers of what one beyond its range may reach; divisors.

    A divisor guarded by a constant that is too small (x + 1e-12) stays FP32 up to the division: else it becomes zero.
    """
    wide: dict[str, str] = {}
    guarded: dict[str, str] = {}
    for position, node in enumerate(net.nodes):
        if not movable(net, position):
            continue
        reasons: dict[str, str] = {}
        for index in net.forms[position].reads:
            name = net.source(node.input[index])
            if name in wide:
                reasons["wide" if node.op_type in RESHAPES else ""] = wide[name]
            elif name in guarded and node.op_type in DIVIDES:
                reasons[""] = guarded[name]
            elif name in guarded and node.op_type in BEFORE_ROOT | {"Expand"}:
                reasons["guarded"] = guarded[name]
            elif (value := net.graph.value(name)) is not None:
                kind, said = _held(net, node, index, value)
                reasons.update({kind: f"its constant {name!r} {said}"} if said else {})
        yield from ((position, reason) for reason in list(reasons.values())[:1])
        for name in node.output:
            if "wide" in reasons and ranges.get(name, np.inf) > LARGEST:
                wide[name] = f"{name!r} may hold numbers beyond FP16's 65504"
            if "guarded" in reasons:
                guarded[name] = f"{name!r} would round to zero, and something divides by it"


def _held(net: Net, node: NodeProto, index: int, value: np.ndarray) -> tuple[str, str]:
    """What becomes of a node's result, and why, where FP16 does not hold its constant."""
    single = value.size == 1 and node.op_type in GUARDS
    factor = index in FACTORS.get(node.op_type, ())
    said = fault(value, additive=not (single or factor))
    if not said or ("beyond" in said and node.op_type in SATURATING and index):
        return "", ""
    if "beyond" in said:
        return ("" if node.op_type == "Div" and index else "wide"), said
    return ("guarded" if single else ""), said


def _sums_of_squares(net: Net) -> Iterator[tuple[int, str]]:
    """x², its sum, and what follows up to the root: variances written out. x² overflows at |x| = 256."""
    reason = "sums of squares leave FP16's range before the root is taken"
    for position, node in enumerate(net.nodes):
        if node.op_type in SQUARES_INSIDE and movable(net, position):
            yield position, reason
        if node.op_type not in REDUCES or not movable(net, position):
            continue
        square = net.producers.get(net.source(node.input[0]))
        if square is None or not _squares(net, square):
            continue
        yield square, reason
        here = position
        while True:
            yield here, reason
            readers = net.readers.get(net.nodes[here].output[0], [])
            if len(readers) != 1 or net.nodes[readers[0][0]].op_type not in BEFORE_ROOT:
                break
            here = readers[0][0]
            if len(list(net.data(here))) != 1:
                break


def _squares(net: Net, position: int) -> bool:
    node = net.nodes[position]
    if node.op_type == "Mul":
        return net.source(node.input[0]) == net.source(node.input[1])
    exponent = net.value(node.input[1]) if node.op_type == "Pow" else None
    return exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2


def _counting(net: Net) -> Iterator[tuple[int, str]]:
    """Arithmetic on what was whole numbers: shapes, indices, coordinates of cells."""
    reason = f"it computes with whole numbers (shapes, indices), which FP16 holds only to {COUNTED}"
    counted: set[str] = set()
    for position, node in enumerate(net.nodes):
        if position in net.casts or net.forms[position].fault or node.op_type == "ConstantOfShape":
            if node.op_type in ("Range", "ConstantOfShape"):
                counted.update(n for n in node.output if net.is_real(n))
        elif node.op_type == "Cast" and net.forms[position].makes and net.types.get(node.input[0]) in WHOLE:
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
    """Layers with INT8 kernels behind a scale that FP16 does not hold: a Cast between would keep them from INT8."""
    for position, held in net.scales.items():
        node = net.nodes[position]
        if (
            held.half is None
            and node.op_type == "DequantizeLinear"
            and net.types.get(node.input[0]) != TensorProto.INT32
        ):
            for reader in _weighted_readers(net, node.output[0]):
                yield reader, f"the scale of {node.output[0]!r} {held.fault}"


def _weighted_readers(net: Net, name: str) -> Iterator[int]:
    for position, _ in net.readers.get(name, []):
        op = net.nodes[position].op_type
        if op in WEIGHTED:
            yield position
        elif op in RESHAPES and (behind := list(_weighted_readers(net, net.nodes[position].output[0]))):
            yield from (position, *behind)


def _between(net: Net, reasons: Reasons) -> Iterator[tuple[int, str]]:
    """Nodes between FP32 nodes, or such and pairs, alone: as FP16 they would cost Casts and save nothing."""

    def free(position: int) -> bool:
        return is_pair_node(net.nodes[position]) or net.forms[position].follows

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
            made = {net.producers.get(name, -1) for _, name in net.data(position)}
            computed = {i for i in made if i < 0 or not is_pair_node(net.nodes[i])}
            stays = computed and all(i in mine or _stays(net, reasons, i) for i in computed)
            if not stays or not all(r in mine or r in reasons or free(r) for r in readers(position)):
                mine.discard(position)
                changed = True
    yield from ((i, "it lies between nodes that stay FP32") for i in sorted(mine))


def _fills(net: Net, reasons: Reasons) -> Iterator[tuple[int, str]]:
    """Tensors of one number that FP32 nodes alone read: as FP16 each would cost a Cast."""
    for position, node in enumerate(net.nodes):
        readers = [r for r, _ in net.readers.get(node.output[0], [])] if node.op_type == "ConstantOfShape" else []
        if readers and movable(net, position) and all(r in reasons for r in readers):
            yield position, "only nodes that stay FP32 read it"


def _stays(net: Net, reasons: Reasons, position: int) -> bool:
    return position in reasons and any(net.types.get(name) == FLOAT for name in net.nodes[position].output)
