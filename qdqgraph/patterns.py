"""What TensorRT fuses and what it moves Q/DQ across: the shapes that rules look for.

Everything here is structure, never names: a residual Add is two data inputs of one shape, a SiLU is a tensor times a
function of itself. Sources: TensorRT's explicit-quantization page (propagation, placement recommendations) and fusion
catalog; NVIDIA's TensorFlow quantization toolkit for the residual Add; see docs/tensorrt.md for the links.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from .graph import Graph, Reader, key
from .pair import Pair, pairs
from .protos import is_standard

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with INT8 kernels of their own; what follows them fuses into their epilogue."""

UNARY = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish"}
    | {"Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Erf", "Exp", "Log", "Neg", "Abs", "Sqrt"}
    | {"Sin", "Cos"}
)
"""Element-wise functions of one tensor."""

BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
"""Averages: they do not commute with rounding, so they need DQ in front and Q behind to run in INT8."""

RESHAPES = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
REPEATS = frozenset({"Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"})
ONE_TO_ONE = RESHAPES | REPEATS | {"MaxPool", "Slice", "Gather"}
KEEPS_ALL = RESHAPES | REPEATS | {"Concat"}
"""Moves whose outputs together hold every element of each input, so a scale that fits the output fits the input."""


Move = tuple[tuple[str, ...], tuple[str, ...]]
"""Data inputs and outputs of a node that only moves or selects values."""


def moved(graph: Graph, node: gs.Node) -> Move | None:
    """Data inputs and outputs of a node that only moves or selects values, else None.

    On such a node Q(f(x)) == f(Q(x)): all its tensors can share one grid. Constants are left out.
    """
    return graph.once(_moves).get(id(node))


def carried(graph: Graph, reader: Reader) -> Move | None:
    """The move that takes the value at this input along; None where the reader computes, or reads a shape there."""
    data = reader.index == 0 or (reader.index > 0 and reader.node.op == "Concat")
    return moved(graph, reader.node) if data else None


def _moves(graph: Graph) -> dict[int, Move]:
    return {id(node): move for node in graph.nodes() if (move := _move(graph, node)) is not None}


def _move(graph: Graph, node: gs.Node) -> Move | None:
    if not is_standard(node):
        return None
    if node.op == "Concat":
        inputs = tuple(t.name for t in node.inputs)
    elif node.op in ONE_TO_ONE or _zero_pad(graph, node) or _nearest(node):
        inputs = tuple(t.name for t in node.inputs[:1])
    else:
        return None
    if node.op == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].name:
        return None
    data = tuple(name for name in inputs if name and not graph.is_constant(name))
    made = tuple(t.name for t in (node.outputs if node.op == "Split" else node.outputs[:1]) if t.name)
    return (data, made) if data and made else None


def _zero_pad(graph: Graph, node: gs.Node) -> bool:
    if node.op != "Pad":
        return False
    if node.attrs.get("mode", "constant") != "constant":
        return True
    if len(node.inputs) > 2 and node.inputs[2].name:
        value = graph.value(node.inputs[2].name)
        return value is not None and not np.any(value)
    return float(node.attrs.get("value", 0.0)) == 0.0


def _nearest(node: gs.Node) -> bool:
    crops = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return node.op in ("Resize", "Upsample") and node.attrs.get("mode", "nearest") == "nearest" and not crops


def self_gate(graph: Graph, node: gs.Node) -> str | None:
    """The tensor x of a product x * f(x) (SiLU, Mish, HardSwish, GELU), else None."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return None
    names = [t.name for t in node.inputs]
    for x, gate in (names, names[::-1]):
        site, steps = pairs(graph).root(x), 0
        while steps < 8 and gate:
            gate = pairs(graph).root(gate)
            if steps and gate == site:
                return x
            maker = graph.producer(gate)
            source = None if maker is None else pointwise(graph, maker)
            if source is None:
                break
            gate, steps = source, steps + 1
    return None


def pointwise(graph: Graph, node: gs.Node) -> str | None:
    """The one data input of an element-wise function (constants aside), else None."""
    if not is_standard(node):
        return None
    if node.op in UNARY:
        return str(node.inputs[0].name)
    if node.op in BINARY and len(node.inputs) == 2:
        data = [t.name for t in node.inputs if not graph.is_constant(t.name)]
        return str(data[0]) if len(data) == 1 else None
    return None


def activation(graph: Graph, node: gs.Node) -> str | None:
    """The tensor that the node's result is a function of, element by element, else None.

    The function may be written in several nodes that read the tensor more than once, as SiLU, Mish, GELU or snake are:
    the node that joins two results, each made of the tensor by element-wise nodes and constants alone, is part of it.
    """
    return pointwise(graph, node) or graph.once(_joins).get(id(node))


def _joins(graph: Graph) -> dict[int, str]:
    """The nodes whose two operands are functions of one tensor, with the nearest such tensor, seen through pairs."""
    above: dict[str, tuple[str, int]] = {}
    found: dict[int, str] = {}
    root = pairs(graph).root
    for node in graph.nodes():
        source = pointwise(graph, node)
        if source is None and node.op in BINARY and len(node.inputs) == 2 and is_standard(node):
            source = _meet(above, *(root(t.name) for t in node.inputs))
            if source is not None:
                found[id(node)] = source
        if source is not None:
            source = root(source)
            above[key(node)] = (source, above.get(source, ("", 0))[1] + 1)
    return found


def _meet(above: dict[str, tuple[str, int]], first: str, second: str) -> str | None:
    """Where the ways up from both tensors meet; None where they do not, or not within a function's usual length."""
    for _ in range(16):
        if first == second:
            return first
        if above.get(first, ("", 0))[1] < above.get(second, ("", 0))[1]:
            first, second = second, first
        if first not in above:
            return None
        first = above[first][0]
    return None


@dataclass(frozen=True, eq=False)
class Use:
    """One node input that finally reads a site, raw or through pairs."""

    reader: Reader
    tensor: str
    pair: Pair | None


class Sites:
    """Who finally reads each site, and what becomes of what they read; computed once a graph, in linear time."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._uses: dict[str, list[Use]] = {}
        table = pairs(graph)
        for node in graph.nodes():
            if node.op == "DequantizeLinear":
                continue
            own = table.of(node) if node.op == "QuantizeLinear" else None
            quantizes = own is not None and own.tieable
            for i, tensor in enumerate(node.inputs):
                if tensor.name and not quantizes:
                    use = Use(Reader(node, i), tensor.name, table.made(tensor.name))
                    self._uses.setdefault(table.root(tensor.name), []).append(use)
        for name, reader in graph.captures:
            self._uses.setdefault(table.root(name), []).append(Use(reader, name, table.made(name)))
        self.feeds = self._feeds()
        self.wants = self._wants()
        self.covered = self._covered()

    def uses(self, site: str) -> tuple[Use, ...]:
        """Every final reader of the site; Q and DQ of plain pairs are seen through."""
        return tuple(self._uses.get(site, ()))

    def raw(self, tensor: str) -> list[Use]:
        """Final readers that see the tensor unrounded."""
        return [u for u in self.uses(tensor) if u.tensor == tensor]

    def _feeds(self) -> set[str]:
        """Tensors whose values reach a quantized pair through moves, averages and element-wise operators only."""
        feeds: set[str] = set()
        through = WEIGHTED | {"Constant", "QuantizeLinear", "DequantizeLinear"}
        for node in reversed(self.graph.nodes()):
            plain = node.op in BINARY | UNARY | POOLS | {"BatchNormalization", "Sum"}
            own = pairs(self.graph).of(node) if node.op == "QuantizeLinear" else None
            if own is not None and own.kind == "activation":
                feeds.add(node.inputs[0].name)
            elif node.op in through or not any(t.name in feeds for t in node.outputs):
                continue
            elif plain:
                feeds.update(t.name for t in node.inputs if t.name)
            elif move := moved(self.graph, node):
                feeds.update(move[0])
        return feeds

    def _wants(self) -> set[str]:
        """Tensors that some reader takes, or will take once repaired, in INT8: directly or through moves."""
        wants: set[str] = set()
        for node in reversed(self.graph.nodes()):
            own = pairs(self.graph).of(node) if node.op == "QuantizeLinear" else None
            if own is not None and own.tieable:
                wants.add(node.inputs[0].name)
            elif (move := moved(self.graph, node)) and any(t in wants for t in move[1]):
                wants.update(move[0])
            elif node.op in ("Add", "Sum", "Mul") or node.op in POOLS:
                wants.update(name for name in int8_operands(self.graph, node, self.feeds))
        return wants

    def _covered(self) -> set[str]:
        """Tensors whose whole range is known from a pair: their own, one behind, or those of all they are made of."""
        covered = {p.site for p in pairs(self.graph) if p.tieable}
        for node in reversed(self.graph.nodes()):
            if node.op in KEEPS_ALL or (node.op in ("Resize", "Upsample", "Pad") and self._grows(node)):
                move = moved(self.graph, node)
                if move and all(t in covered for t in move[1]):
                    covered.update(move[0])
        for node in self.graph.nodes():
            move = moved(self.graph, node)
            if move and all(pairs(self.graph).root(t) in covered for t in move[0]):
                covered.update(move[1])
        return covered

    def _grows(self, node: gs.Node) -> bool:
        """Whether a nearest Resize or a Pad leaves no element out: no dimension shrinks."""
        before, after = (self.graph.shape(t.name) for t in (node.inputs[0], node.outputs[0]))
        return bool(before and after) and all(
            a is not None and b is not None and a >= b for b, a in zip(before or (), after or (), strict=False)
        )


def sites(graph: Graph) -> Sites:
    """The graph's sites with their readers, found once."""
    return graph.once(Sites)


def closed(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Tensors whose raw values end in Qs only, directly or through moves, with the tensors that these moves make.

    A tensor is missing where some raw reader computes with it, where it is a graph output, or where no Q is reached.
    """
    return graph.once(_closed)


def _closed(graph: Graph) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for node in reversed(graph.nodes()):
        for tensor in node.outputs:
            _close(graph, tensor.name, found)
    for name in graph.inputs:
        _close(graph, name, found)
    return found


def _close(graph: Graph, tensor: str, found: dict[str, tuple[str, ...]]) -> None:
    following: dict[str, None] = {}
    for use in sites(graph).raw(tensor):
        move = carried(graph, use.reader)
        if move is None or any(made not in found for made in move[1]):
            return
        following.update(dict.fromkeys(move[1]))
    if tensor not in graph.outputs and (following or pairs(graph).at(tensor)):
        found[tensor] = tuple(following)


def common_grid(graph: Graph, node: gs.Node) -> tuple[str, ...] | None:
    """The sites around a moving node that must share one scale for it to move INT8 values; None where it need not.

    It must where some reader behind takes INT8, or where everything in front is quantized already.
    """
    move = moved(graph, node)
    if move is None:
        return None
    table = pairs(graph)
    inputs, outputs = move
    if not any(t in sites(graph).wants for t in outputs) and not all(table.made(t) for t in inputs):
        return None
    around = tuple(dict.fromkeys((*map(table.root, inputs), *outputs)))
    return around if len(around) > 1 else None


def scales_at(graph: Graph, around: tuple[str, ...]) -> str:
    """The distinct scales at these sites, for a message: "0.1 ('a'), 0.25 ('b')"; or that they differ elsewhere."""
    found: dict[float, str] = {}
    for site in around:
        for pair in pairs(graph).at(site):
            found.setdefault(pair.value, site)
    if len(found) < 2:
        return "not here, but between the tensors that it connects"
    shown = [f"{value:.4g} ('{site}')" for value, site in sorted(found.items())]
    return ", ".join(shown[:4] + ([f"... {len(shown) - 4} more"] if len(shown) > 4 else []))


def int8_operands(graph: Graph, node: gs.Node, feeds: set[str]) -> Iterator[str]:
    """Operands that an Add, Mul or average should read in INT8, because its own result goes to INT8 layers."""
    if not any(t.name in feeds for t in node.outputs):
        return
    if node.op in POOLS:
        yield node.inputs[0].name
    elif (node.op == "Mul" or len(node.inputs) == 2) and activation(graph, node) is None:
        yield from (t.name for t in node.inputs)
