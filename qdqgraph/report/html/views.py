"""A graph for the page: boxes with their pairs, kernels and measurements, the tensors between them, and its groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...engines.compare.match import NUMBERED
from ...engines.layers import Engine
from ...graph.graph import Graph, Node, key, label
from ...graph.pair import Pair, is_pair, pairs
from ...printable import printable
from ...repair.solution import Change, Group
from ..histograms import Values
from .boxes import Folded, Folding, folded, unfolded
from .parts import Box, Edge, Fact, SitePair, View
from .parts import Node as Member
from .words import attributes, finite, shape_of, short, titled

INTEGERS = ("int8", "uint8", "int16", "uint16")
"""Types of integers whose range is shown."""
SCALE_DIGITS = 7
WEIGHT = ".weight"
"""How PyTorch's names of weights end, after the path of their module."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A graph, its forecast, and what else is known of it.

    Attributes:
        title: "before", "after", or "" for the only graph.
        groups: the sites that share one scale, or will after the repair.
        changes: the sites whose scale a repair changed, in the graph after it.
        facts: what was measured, by the output tensor of a layer.
        values: what data show of the sites, by name.
        whole: whether each node is a box of its own.
    """

    title: str
    graph: Graph
    engine: Engine
    groups: tuple[Group, ...] = ()
    changes: tuple[Change, ...] = ()
    facts: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    values: Mapping[str, Values] = field(default_factory=dict)
    whole: bool = False

    @cached_property
    def folding(self) -> Folding:
        """Its boxes."""
        return unfolded(self.graph) if self.whole else folded(self.graph)

    @cached_property
    def computed(self) -> Mapping[int, int]:
        """The kernel that computes each node, as an index of the working layers, by the id of the node; by its label,
        where no other node has it, else by what the kernel writes."""
        named: dict[str, list[Node]] = defaultdict(list)
        for node in self.graph.nodes():
            named[label(node)].append(node)
        found: dict[int, int] = {}
        for number, layer in enumerate(self.engine.working):
            if layer.cause:
                continue
            mine = [named[name][0] for name in layer.nodes if len(named.get(name, ())) == 1]
            made = (self.graph.producer(t.name) for t in layer.outputs)
            for node in (*mine, *(n for n in made if n is not None and not is_pair(n))):
                found.setdefault(id(node), number)
        return found

    @cached_property
    def kernels(self) -> Mapping[int, tuple[int, ...]]:
        """The boxes, by index, that each working layer of the forecast computes, by the id of the layer."""
        found: dict[int, list[int]] = defaultdict(list)
        for index, box in enumerate(self.folding.boxes):
            for node in box.nodes:
                if (number := self.computed.get(id(node))) is not None:
                    found[number].append(index)
        return {id(layer): tuple(dict.fromkeys(found[i])) for i, layer in enumerate(self.engine.working)}

    @cached_property
    def owners(self) -> Mapping[int, int]:
        """The box of each node, by the id of the node."""
        return {id(n): i for i, box in enumerate(self.folding.boxes) for n in box.nodes}

    def box_at(self, tensor: str, node: str = "") -> int | None:
        """The box of a tensor, by index: the one that produces it, or computes with it, if it is constant; or that has
        a node of this label."""
        pending = [self.graph.source(tensor)]
        seen = set(pending)
        while pending:
            name = pending.pop(0)
            if (box := self.folding.makes.get(name)) is not None:
                return box
            for reader in self.graph.readers(name):
                if id(reader.node) in self.owners:
                    return self.owners[id(reader.node)]
                made = [t.name for t in reader.node.outputs if t.name and t.name not in seen]
                pending += made
                seen.update(made)
        named = (i for i, box in enumerate(self.folding.boxes) if node and any(label(n) == node for n in box.nodes))
        return next(named, None)


def view(drawn: Drawn, numbers: Mapping[str, int]) -> View:
    """A graph as the page shows it; `numbers` gives each box its number by its key."""
    return _Drawing(drawn, numbers).view()


class _Drawing:
    """Builds one view."""

    def __init__(self, drawn: Drawn, numbers: Mapping[str, int]) -> None:
        self.drawn, self.graph, self.folding = drawn, drawn.graph, drawn.folding
        self.ids = [numbers[box.key] for box in self.folding.boxes]
        self.table = pairs(self.graph)
        self.changes = {change.site: change for change in drawn.changes}
        shared = [group for group in drawn.groups if sum(bool(self.table.at(s)) for s in group.sites) > 1]
        self.groups = tuple(self._makers(group.sites) for group in shared)
        self.group_of = {site: number for number, group in enumerate(shared) for site in group.sites}
        self.kernel_of, self.first_of = self._kernels()
        self.reformats = self._reformats()

    def view(self) -> View:
        boxes = tuple(self._box(i, box) for i, box in enumerate(self.folding.boxes))
        edges = tuple(self._edge(*line) for line in self.folding.lines)
        return View(self.drawn.title, boxes, edges, self.groups)

    def _kernels(self) -> tuple[dict[int, int], dict[int, int]]:
        """The kernel of each box, that of its core if there is one, and the first box of each kernel, as indices."""
        kernel_of: dict[int, int] = {}
        first_of: dict[int, int] = {}
        for index, box in enumerate(self.folding.boxes):
            nodes = ((box.core,) if box.core is not None else ()) + box.nodes
            known = [number for node in nodes if (number := self.drawn.computed.get(id(node))) is not None]
            if known:
                kernel_of[index] = known[0]
                first_of.setdefault(known[0], index)
        return kernel_of, first_of

    def _reformats(self) -> Mapping[str, tuple[int, ...]]:
        """The reformats of each tensor of the file, as indices of kernels."""
        source: dict[str, str] = {}
        found: dict[str, list[int]] = defaultdict(list)
        for number, layer in enumerate(self.drawn.engine.working):
            if layer.cause and layer.inputs:
                name = source.get(layer.inputs[0].name, layer.inputs[0].name)
                source.update((t.name, name) for t in layer.outputs)
                found[self._site(name)].append(number)
        return {name: tuple(them) for name, them in found.items()}

    def _site(self, name: str) -> str:
        """The site of a tensor of the forecast, seen through pairs."""
        maker = self.graph.producer(name)
        if maker is not None and maker.op == "QuantizeLinear" and is_pair(maker):
            name = maker.inputs[0].name
        return self.table.root(name)

    def _box(self, index: int, box: Folded) -> Box:
        core, kernel = box.core, self.kernel_of.get(index)
        layer = None if kernel is None else self.drawn.engine.working[kernel]
        made = list(dict.fromkeys((*(t.name for n in box.nodes for t in n.outputs if t.name), box.key)))
        mine = list(self._pairs(box, made))
        facts = [fact for name in made for fact in self.drawn.facts.get(name, ())]
        return Box(
            id=self.ids[index],
            title=printable(box.key.rstrip()) if core is None else self._title(core),
            op=self._op(box),
            also=() if core is None else self._also(box, core),
            name=printable(box.key.rstrip() if core is None else label(core)),
            end=core is None,
            shape=shape_of(self.graph, box.key.rstrip() if core is None else self._end(box)),
            nodes=tuple(self._member(node, core) for node in box.nodes),
            pairs=tuple(mine),
            precision="" if layer is None else printable(layer.precision),
            kernel=kernel,
            bytes=layer.bytes if layer is not None and self.first_of.get(kernel or 0) == index else 0,
            reformats=tuple(n for name in dict.fromkeys(made) for n in self.reformats.get(name, ())),
            groups=tuple(dict.fromkeys(p.group for p in mine if p.group is not None)),
            facts=tuple(facts),
        )

    def _title(self, core: Node) -> str:
        """The short name of a box: that of its weight if an exporter has only numbered the node."""
        if NUMBERED.match(str(core.name)) and len(core.inputs) > 1:
            pair = self.table.made(core.inputs[1].name)
            weight = core.inputs[1].name if pair is None else pair.tensor
            if weight.endswith(WEIGHT) and self.graph.is_constant(weight):
                return short(weight.removesuffix(WEIGHT))
        return titled(core)

    def _op(self, box: Folded) -> str:
        if box.core is None:
            return "output" if box.key.endswith(" ") else "input"
        return "Normalization" if box.normalization and len(box.nodes) > 1 else printable(box.core.op)

    def _also(self, box: Folded, core: Node) -> tuple[str, ...]:
        if box.normalization:
            return ()
        return tuple(dict.fromkeys(printable(n.op) for n in box.nodes if n is not core and not is_pair(n)))

    def _end(self, box: Folded) -> str:
        """The last result of a box, seen through its pairs."""
        plain = [node for node in box.nodes if not is_pair(node)]
        return key(plain[-1] if plain else box.nodes[-1])

    def _member(self, node: Node, core: Node | None) -> Member:
        role = "core" if node is core else "pair" if is_pair(node) else "folded"
        detail = self._quantization(node) if is_pair(node) else attributes(node)
        name = printable(str(node.name)) or printable(key(node))
        return Member(name, printable(node.op), role, printable(key(node)), detail)  # type: ignore[arg-type]

    def _quantization(self, node: Node) -> str:
        pair = self.table.of(node)
        if pair is None or pair.scale is None:
            return "scale is computed"
        return f"scale {pair.value:.6g}" if pair.per_tensor else f"{pair.scale.size} scales"

    def _pairs(self, box: Folded, made: Sequence[str]) -> Iterable[SitePair]:
        """The pairs of the tensors that a box makes, and of the weights that it reads."""
        seen: set[int] = set()
        for node in box.nodes:
            found = self.table.of(node) if is_pair(node) else None
            candidates = [found] if found is not None else [self.table.made(t.name) for t in node.inputs if t.name]
            for pair in candidates:
                if pair is None or id(pair) in seen or (pair.kind == "activation" and found is None):
                    continue
                seen.add(id(pair))
                yield self._pair(pair)

    def _pair(self, pair: Pair) -> SitePair:
        integers = "" if pair.zero_point is None else str(pair.zero_point.dtype)
        change = self.changes.get(pair.site) if pair.kind == "activation" else None
        value = finite(_exact(pair.value)) if pair.per_tensor else None
        scales = None
        if pair.scale is not None and not pair.per_tensor and pair.scale.size:
            each = np.asarray(pair.scale, np.float64).reshape(-1)
            figures = [finite(_exact(float(f(each)))) for f in (np.min, np.median, np.max)]
            scales = None if None in figures else (int(each.size), *figures)
        return SitePair(
            tensor=printable(pair.tensor),
            kind=pair.kind,
            scale=value,
            scales=scales,  # type: ignore[arg-type]
            integers=integers,
            zero=_zero(pair),
            range=_range(pair),
            shape=shape_of(self.graph, pair.tensor),
            group=self.group_of.get(pair.site) if pair.kind == "activation" else None,
            was=None if change is None else finite(_exact(change.own)),
            bits=None if change is None else finite(round(change.lost, 4)),
            method="" if change is None else change.method,
            values=self.drawn.values.get(pair.site) if pair.kind == "activation" else None,
        )

    def _makers(self, sites: Iterable[str]) -> tuple[int, ...]:
        """The boxes that produce these sites."""
        found = (self.folding.makes.get(site) for site in sites)
        return tuple(dict.fromkeys(self.ids[box] for box in found if box is not None))

    def _edge(self, source: int, target: int, tensor: str, reader: Node | None) -> Edge:
        pair = self.table.made(tensor)
        site = self.table.root(tensor)
        maker = self.graph.producer(site)
        kernel = None if reader is None else self.drawn.computed.get(id(reader), self.kernel_of.get(target))
        return Edge(
            source=self.ids[source],
            target=self.ids[target],
            tensor=printable(site),
            shape=shape_of(self.graph, site),
            quantized=pair is not None,
            scale=finite(_exact(pair.value)) if pair is not None and pair.per_tensor else None,
            precision=self._read(kernel, site),
            fused=kernel is not None and maker is not None and self.drawn.computed.get(id(maker)) == kernel,
            reformats=tuple(n for n in self.reformats.get(site, ()) if self._feeds(n, kernel)),
        )

    def _read(self, kernel: int | None, site: str) -> str:
        """The type in which a kernel reads a site."""
        if kernel is None:
            return ""
        inputs = self.drawn.engine.working[kernel].inputs
        found = next((t for t in inputs if self._origin.get(t.name, t.name) == site), None)
        found = found or next((t for t in inputs if self._site(self._origin.get(t.name, t.name)) == site), None)
        return "" if found is None else printable(found.precision)

    def _feeds(self, reformat: int, kernel: int | None) -> bool:
        """Whether a kernel reads what a reformat writes; without a kernel, whether none does: it leaves the graph."""
        made = {t.name for t in self.drawn.engine.working[reformat].outputs}
        if kernel is None:
            return not made & self._read_names
        return any(t.name in made for t in self.drawn.engine.working[kernel].inputs)

    @cached_property
    def _read_names(self) -> frozenset[str]:
        return frozenset(t.name for layer in self.drawn.engine.working for t in layer.inputs)

    @cached_property
    def _origin(self) -> Mapping[str, str]:
        """What each result of a reformat was before it."""
        found: dict[str, str] = {}
        for layer in self.drawn.engine.working:
            if layer.cause and layer.inputs:
                name = layer.inputs[0].name
                found.update((t.name, found.get(name, name)) for t in layer.outputs)
        return found


def _exact(value: float) -> float:
    """A scale with the digits that float32 has."""
    return float(f"{value:.{SCALE_DIGITS}g}")


def _range(pair: Pair) -> tuple[float, float] | None:
    """The smallest and the largest value that a pair with one scale represents; None if unknown."""
    if not pair.per_tensor or pair.zero_point is None or str(pair.zero_point.dtype) not in INTEGERS:
        return None
    zero, ends = int(pair.zero_point.reshape(-1)[0]), np.iinfo(pair.zero_point.dtype)
    low, high = (finite(_exact((end - zero) * pair.value)) for end in (int(ends.min), int(ends.max)))
    return None if low is None or high is None else (low, high)


def _zero(pair: Pair) -> str:
    """The zero-point in words; "" if it is zero."""
    if pair.symmetric or pair.zero_point is None:
        return ""
    found = pair.zero_point.reshape(-1)
    return str(found[0]) if found.size == 1 else f"{found.size} values"
