"""The final readers of each tensor, seen through pairs, and where its values go downstream.

Sources: TensorRT's explicit-quantization page (propagation, placement recommendations) and fusion catalog; see
docs/tensorrt.md for the links.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

import onnx_graphsurgeon as gs

from ..operators import AVERAGES, BINARY, KEEPS_ALL, MOVES_WHEN, PAIRS, SUMS, UNARY, WEIGHTED
from .elementwise import activation
from .graph import Graph, Reader
from .moves import move_at, move_of, moves
from .normalizations import normalizations
from .pair import Pair, pairs

SHOWN = 4
"""The most scales in a message."""


@dataclass(frozen=True, eq=False, slots=True)
class Use:
    """One node input that finally reads a site, unquantized or through pairs; `pair` is None if unquantized."""

    reader: Reader
    tensor: str
    pair: Pair | None


class Sites:
    """The final readers of each site, and where its values go; computed once per graph, in linear time.

    Attributes:
        feeds: tensors whose values reach an activation pair through data-movement, average and element-wise ops only,
            none of them part of a normalization.
        wants: tensors that some reader takes in INT8, or will after the repair, directly or through data-movement ops.
        covered: tensors whose whole range is known from a pair: their own, one downstream, or those of all inputs.
        dequantized: tensors whose values all come from pairs, directly or through data-movement ops only.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        uses: dict[str, list[Use]] = {}
        self._at: dict[tuple[int, int], Use] = {}
        table = pairs(graph)
        for node in graph.nodes():
            own = table.of(node) if node.op == "QuantizeLinear" else None
            if node.op == "DequantizeLinear" or (own is not None and own.tieable):
                continue
            for i, tensor in enumerate(node.inputs):
                if name := tensor.name:
                    use = self._at[id(node), i] = Use(Reader(node, i), name, table.made(name))
                    uses.setdefault(table.root(name), []).append(use)
        for captured, reader in graph.captures:
            name = graph.source(captured)
            uses.setdefault(table.root(name), []).append(Use(reader, name, table.made(name)))
        self._uses = {site: tuple(found) for site, found in uses.items()}
        self.feeds = self._feeds()
        self.wants = self._wants()
        self.covered = self._covered()
        self.dequantized = self._dequantized()

    def uses(self, site: str) -> tuple[Use, ...]:
        """Every final reader of the site, seen through plain pairs."""
        return self._uses.get(site, ())

    def use(self, node: gs.Node, index: int) -> Use | None:
        """The use at an input of a node; None if it reads nothing there, is a DequantizeLinear, or the Q of a plain
        pair."""
        return self._at.get((id(node), index))

    def raw(self, tensor: str) -> list[Use]:
        """Final readers that read the tensor unquantized."""
        return [u for u in self.uses(tensor) if u.tensor == tensor]

    def _feeds(self) -> set[str]:
        """`feeds`, in one backward pass."""
        feeds: set[str] = set()
        ends = WEIGHTED | PAIRS | {"Constant"}
        plain = BINARY | UNARY | AVERAGES | SUMS | {"BatchNormalization"}
        inner, table, moved = normalizations(self.graph), pairs(self.graph), moves(self.graph)
        for node in reversed(self.graph.nodes()):
            if node.op in ends:
                own = table.of(node) if node.op == "QuantizeLinear" else None
                if own is not None and own.kind == "activation":
                    feeds.add(node.inputs[0].name)
            elif inner.computes(node) or feeds.isdisjoint([t.name for t in node.outputs]):
                continue
            elif node.op in plain:
                feeds.update([t.name for t in node.inputs if t.name])
            elif move := moved.get(id(node)):
                feeds.update(move[0])
        return feeds

    def _wants(self) -> set[str]:
        """`wants`, in one backward pass."""
        wants: set[str] = set()
        joined = SUMS | AVERAGES | {"Mul"}
        inner, table, moved = normalizations(self.graph), pairs(self.graph), moves(self.graph)
        for node in reversed(self.graph.nodes()):
            own = table.of(node) if node.op == "QuantizeLinear" else None
            if own is not None and own.tieable:
                wants.add(node.inputs[0].name)
                continue
            move = moved.get(id(node))
            if (move is None and node.op not in joined) or inner.computes(node):
                continue
            if move is not None and not wants.isdisjoint(move[1]):
                wants.update(move[0])
            elif node.op in joined:
                wants.update(int8_operands(self.graph, node, self.feeds))
        return wants

    def _covered(self) -> set[str]:
        """`covered`, in one backward and one forward pass."""
        table, moved = pairs(self.graph), moves(self.graph)
        covered = {p.site for p in table if p.tieable}
        moving = [(node, moved[id(node)]) for node in self.graph.nodes() if id(node) in moved]
        for node, move in reversed(moving):
            keeps = node.op in KEEPS_ALL or (node.op in MOVES_WHEN and self._grows(node))
            if keeps and covered.issuperset(move[1]):
                covered.update(move[0])
        for _, move in moving:
            if covered.issuperset(map(table.root, move[0])):
                covered.update(move[1])
        return covered

    def _dequantized(self) -> set[str]:
        """`dequantized`, in one forward pass."""
        found: set[str] = set()
        table, moved = pairs(self.graph), moves(self.graph)
        for node in self.graph.nodes():
            if node.op == "DequantizeLinear":
                found.update([t.name for t in node.outputs if table.made(t.name)])
            elif (move := moved.get(id(node))) and found.issuperset(move[0]):
                found.update(move[1])
        return found

    def _grows(self, node: gs.Node) -> bool:
        """Whether a nearest Resize or a Pad keeps every element: no dimension shrinks."""
        before, after = (self.graph.shape(t.name) for t in (node.inputs[0], node.outputs[0]))
        return bool(before and after) and all(
            a is not None and b is not None and a >= b for b, a in zip(before or (), after or (), strict=False)
        )


def sites(graph: Graph) -> Sites:
    """The graph's sites with their readers, found once."""
    return graph.once(Sites)


def only_quantized(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Tensors whose unquantized values end in Qs only, directly or through data-movement ops, with these ops' outputs.

    Missing are tensors that another node computes with unquantized, graph outputs, and tensors that reach no Q.
    """
    return graph.once(_closed)


def _closed(graph: Graph) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    made = (tensor.name for node in reversed(graph.nodes()) for tensor in node.outputs)
    table, uses = pairs(graph), sites(graph).uses
    for tensor in (*made, *graph.inputs):
        following = _following(graph, tensor, uses(tensor), found)
        if following is not None and tensor not in graph.outputs and (following or table.at(tensor)):
            found[tensor] = tuple(following)
    return found


def _following(graph: Graph, tensor: str, uses: tuple[Use, ...], closed: Collection[str]) -> Collection[str] | None:
    """The outputs of the data-movement ops that read a tensor unquantized; None if another node does, or if not all of
    these outputs are closed."""
    following: dict[str, None] = {}
    for use in uses:
        if use.tensor != tensor:
            continue
        move = move_at(graph, use.reader)
        if move is None or any(made not in closed for made in move[1]):
            return None
        following.update(dict.fromkeys(move[1]))
    return following


def shared_scale_sites(graph: Graph, node: gs.Node) -> tuple[str, ...] | None:
    """The sites around a data-movement op that must share one scale for it to run on INT8; None if they need not.

    They must if a downstream reader takes INT8, or if all inputs are quantized already, directly or upstream of other
    data-movement ops; not inside a normalization, which runs in float.
    """
    move = move_of(graph, node)
    if move is None or normalizations(graph).computes(node):
        return None
    table = pairs(graph)
    inputs, outputs = move
    if not any(t in sites(graph).wants for t in outputs) and not all(t in sites(graph).dequantized for t in inputs):
        return None
    around = tuple(dict.fromkeys((*map(table.root, inputs), *outputs)))
    return around if len(around) > 1 else None


def scales_at(graph: Graph, around: tuple[str, ...]) -> str:
    """The distinct scales at these sites, for a message: "0.1 ('a'), 0.25 ('b')"; with fewer than two,
    that their groups differ."""
    known = graph.known(scales_at)
    if around not in known:
        known[around] = _scales_at(graph, around)
    return known[around]


def _scales_at(graph: Graph, around: tuple[str, ...]) -> str:
    scales = [(site, pairs(graph).scales(site)) for site in around]
    most = max((known for _, known in scales), key=len)  # a site may have thousands, and belong to as many messages
    more = {value for _, known in scales if known is not most for value in known if value not in most}
    count = len(most) + len(more)
    if count < 2:
        return "its input and output belong to groups with different scales"
    shown = [
        f"{value:.4g} ('{next(site for site, known in scales if value in known)}')"
        for value in sorted((*islice(most, SHOWN), *more))[:SHOWN]
    ]
    return ", ".join(shown + ([f"... {count - SHOWN} more"] if count > SHOWN else []))


def int8_operands(graph: Graph, node: gs.Node, feeds: set[str]) -> Iterator[str]:
    """Operands that an Add, Mul or average should read in INT8, because its own result feeds INT8 layers."""
    if not any(t.name in feeds for t in node.outputs):
        return
    if node.op in AVERAGES:
        yield node.inputs[0].name
    elif (node.op == "Mul" or len(node.inputs) == 2) and activation(graph, node) is None:
        yield from (t.name for t in node.inputs)
