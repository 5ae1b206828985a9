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

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with INT8 kernels of their own; what follows them fuses into their epilogue."""

UNARY = frozenset(
    "Relu LeakyRelu PRelu Clip Sigmoid Tanh HardSigmoid HardSwish Elu Selu Celu Gelu Mish Swish Softplus Softsign "
    "ThresholdedRelu Erf Exp Neg Abs Sqrt".split()
)
"""Element-wise functions of one tensor."""

BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
"""Averages: they do not commute with rounding, so they need DQ in front and Q behind to run in INT8."""

ONE_TO_ONE = frozenset(
    "MaxPool Reshape Transpose Flatten Squeeze Unsqueeze Slice Split Gather Expand Tile Identity DepthToSpace "
    "SpaceToDepth".split()
)
KEEPS_ALL = frozenset(
    "Concat Reshape Transpose Flatten Squeeze Unsqueeze Split Expand Tile Identity DepthToSpace SpaceToDepth Pad".split()
)
"""Moves whose outputs together hold every element of each input, so a scale that fits the output fits the input."""


def moved(graph: Graph, node: gs.Node) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Data inputs and outputs of a node that only moves or selects values, else None.

    On such a node Q(f(x)) == f(Q(x)): all its tensors can share one grid. Constants are left out.
    """
    if (node.domain or "") not in ("", "ai.onnx"):
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
    if (node.domain or "") not in ("", "ai.onnx"):
        return None
    if node.op in UNARY:
        return str(node.inputs[0].name)
    if node.op in BINARY and len(node.inputs) == 2:
        data = [t.name for t in node.inputs if not graph.is_constant(t.name)]
        return str(data[0]) if len(data) == 1 else None
    return None


def activation(graph: Graph, node: gs.Node) -> str | None:
    """The tensor that an activation or its last node is a function of, else None."""
    return self_gate(graph, node) or pointwise(graph, node)


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
            quantizes = node.op == "QuantizeLinear" and table.of(node).tieable
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
            if node.op == "QuantizeLinear" and pairs(self.graph).of(node).kind == "activation":
                feeds.add(node.inputs[0].name)
            elif node.op not in through and (plain or moved(self.graph, node)):
                if any(t.name in feeds for t in node.outputs):
                    feeds.update(t.name for t in node.inputs if t.name)
        return feeds

    def _wants(self) -> set[str]:
        """Tensors that some reader takes, or will take once repaired, in INT8: directly or through moves."""
        wants: set[str] = set()
        for node in reversed(self.graph.nodes()):
            if node.op == "QuantizeLinear" and pairs(self.graph).of(node).tieable:
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
            if node.op in KEEPS_ALL or (node.op in ("Resize", "Upsample") and self._grows(node)):
                move = moved(self.graph, node)
                if move and all(t in covered for t in move[1]):
                    covered.update(move[0])
        for node in self.graph.nodes():
            move = moved(self.graph, node)
            if move and all(pairs(self.graph).root(t) in covered for t in move[0]):
                covered.update(move[1])
        return covered

    def _grows(self, node: gs.Node) -> bool:
        """Whether a nearest Resize repeats elements and leaves none out, as far as shapes tell."""
        before, after = (self.graph.shape(t.name) for t in (node.inputs[0], node.outputs[0]))
        return bool(before and after) and all(
            a is not None and b is not None and a >= b for b, a in zip(before or (), after or (), strict=False)
        )


def sites(graph: Graph) -> Sites:
    """The graph's sites with their readers, found once."""
    return graph.once(Sites)


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
    """The distinct scales at these sites, for a message: "0.1 ('a'), 0.25 ('b')"."""
    found: dict[float, str] = {}
    for site in around:
        for pair in pairs(graph).at(site):
            found.setdefault(pair.value, site)
    shown = [f"{value:.4g} ('{site}')" for value, site in sorted(found.items())]
    return ", ".join(shown[:4] + ([f"... {len(shown) - 4} more"] if len(shown) > 4 else []))


def int8_operands(graph: Graph, node: gs.Node, feeds: set[str]) -> Iterator[str]:
    """Operands that an Add, Mul or average should read in INT8, because its own result goes to INT8 layers."""
    if not any(t.name in feeds for t in node.outputs):
        return
    if node.op in POOLS:
        yield node.inputs[0].name
    elif node.op == "Mul":
        if self_gate(graph, node) is None and pointwise(graph, node) is None:
            yield from (t.name for t in node.inputs)
    elif len(node.inputs) == 2 and pointwise(graph, node) is None:
        yield from (t.name for t in node.inputs)


@dataclass(frozen=True, eq=False)
class Side:
    """One operand of a residual Add.

    Attributes:
        index: which input of the Add.
        tensor: the tensor as read, site: the same seen through its pair.
        pair: the pair it is read through; None where it is bare.
        fusible: it is the result of an INT8 convolution block that nothing else reads.
    """

    index: int
    tensor: str
    site: str
    pair: Pair | None
    fusible: bool


@dataclass(frozen=True, eq=False)
class Residual:
    """An Add of two data tensors of one shape: a skip connection.

    `conv` is the side that fuses with the Add and should stay bare: the only convolution block, or of two the one
    with the longer path. `skips` are the sides that should carry a pair.
    """

    add: gs.Node
    conv: Side | None
    skips: tuple[Side, ...]


def residual(graph: Graph, add: gs.Node) -> Residual | None:
    """The Add as a residual; None where an operand is constant, broadcast or no float tensor."""
    if len(add.inputs) != 2 or add.inputs[0].name == add.inputs[1].name:
        return None
    names = [t.name for t in add.inputs]
    if any(graph.is_constant(n) for n in names):
        return None
    first, second = (graph.shape(n) for n in names)
    if first is not None and second is not None and first[1:] != second[1:] and None not in first + second:
        return None
    table = pairs(graph)
    sides = [Side(i, n, table.root(n), table.made(n), _fusible(graph, add, table.root(n))) for i, n in enumerate(names)]
    fusible = [s for s in sides if s.fusible]
    conv = max(fusible, key=lambda s: (graph.depth.get(s.site, 0), -s.index), default=None)
    return Residual(add, conv, tuple(s for s in sides if s is not conv))


def _fusible(graph: Graph, add: gs.Node, site: str) -> bool:
    alone = all(u.reader.node is add for u in sites(graph).uses(site)) and site not in graph.outputs
    return alone and block(graph, site) is not None


def residuals(graph: Graph) -> tuple[Residual, ...]:
    """All residual Adds, in file order; found once."""
    return graph.once(_residuals)


def _residuals(graph: Graph) -> tuple[Residual, ...]:
    return tuple(r for add in graph.nodes("Add", "Sum") if (r := residual(graph, add)) is not None)


def skips_convolution(graph: Graph, site: str) -> bool:
    """Whether the site is the paired skip of a residual Add and the paired input of a weighted operator as well."""
    paired = [u.reader.node for u in sites(graph).uses(site) if u.pair is not None]
    skipped = {s.site for node in paired if node.op in ("Add", "Sum") and (r := residual(graph, node)) for s in r.skips}
    return site in skipped and any(node.op in WEIGHTED for node in paired)


def block(graph: Graph, tensor: str) -> gs.Node | None:
    """The INT8 convolution (or Gemm) whose block of BatchNormalization and activation ends in this tensor.

    None where the tensor is made otherwise, where the convolution's own input is not quantized, or where something
    outside the block reads a tensor inside it.
    """
    table = pairs(graph)
    for _ in range(6):
        node = graph.producer(tensor)
        if node is None:
            return None
        if node.op in WEIGHTED:
            return node if table.made(node.inputs[0].name) else None
        inner = node.inputs[0].name if node.op == "BatchNormalization" else activation(graph, node)
        if inner is None or not _inside(graph, table.root(inner), key(node)):
            return None
        tensor = table.root(inner)
    return None


def _inside(graph: Graph, tensor: str, end: str) -> bool:
    """Whether everything that reads the tensor is part of the element-wise function that ends in `end`."""
    pending = [tensor]
    while pending:
        name = pending.pop()
        if name in graph.outputs:
            return False
        for reader in graph.readers(name):
            made = key(reader.node)
            if made == end:
                continue
            if reader.node.op not in UNARY | BINARY | {"QuantizeLinear", "DequantizeLinear"}:
                return False
            if graph.depth.get(made, 0) > graph.depth.get(end, 0):
                return False
            pending.append(made)
    return True
