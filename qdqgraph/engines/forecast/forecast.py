"""Which kernels TensorRT forms from a graph with Q/DQ, by its documented rules only.

The nodes are divided into kernels (`kernels`), Q and DQ move to where they can be absorbed (`propagation`), and what no
kernel absorbs is a reformat (`memory`). What TensorRT decides by timing, above all layouts, is not forecast.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from ...graph import squares
from ...graph.casts import narrowed
from ...graph.graph import Graph, key, label
from ...graph.pair import Pair, pairs
from ...graph.sites import Use, sites
from ...model.protos import is_standard
from ...operators import FLOAT_ONLY, JOINS, VIEWS
from ..layers import PREDICTED, Engine, Layer
from .evidence import reason
from .kernels import NORMALIZATION, POINTWISE, Kernel, Partition
from .memory import FLOATING, FLOATS, Memory, StoredType
from .propagation import passes

WEIGHT_CHAIN = VIEWS | {"Transpose", "Cast"}
"""Operators between a weight's pair and its reader through which the weight stays quantized."""


def forecast(graph: Graph, name: str) -> Engine:
    """The engine that the documented rules predict for the graph's target, with this name."""
    layers = _Forecast(graph).layers()
    notes = ["a forecast by documented rules: it excludes layouts and what TensorRT decides by timing"]
    if any(-1 in t.dims for layer in layers for t in (*layer.inputs, *layer.outputs)):
        notes.append("a tensor with a dynamic dimension has no known size and counts as 0 bytes; a dynamic batch is 1")
    ends = (*(t.name for t in graph.gs.inputs), *(t.name for t in graph.gs.outputs))
    return Engine(name, f"{PREDICTED}{graph.target.name}", layers, ends, notes=tuple(notes))


class _Forecast:
    """One pass over the kernels in execution order; each reads the outputs of earlier ones, converted if necessary."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.memory = graph, Memory(graph)
        self.table, self.parts = pairs(graph), Partition(graph)
        self.pooled: set[str] = set()
        self.narrowed = narrowed(graph.model, graph.casts, graph.dtype)

    def layers(self) -> tuple[Layer, ...]:
        """All layers, in execution order."""
        kernels = {id(k.nodes[-1]): k for k in self.parts.kernels}
        for node in self.graph.nodes():
            if (
                node.op in VIEWS
                and id(node) not in self.parts.taken
                and id(node) not in self.parts.shapes
                and not self.graph.is_constant(key(node))
            ):
                if (use := self._use(node, 0)) is not None:
                    self.memory.view(key(node), use)
            elif (kernel := kernels.get(id(node))) is not None:
                self._kernel(kernel)
        for name in dict.fromkeys(self.graph.source(tensor.name) for tensor in self.graph.gs.outputs):
            self.memory.leave(name)
        return tuple(self.memory.layers)

    def _use(self, node: gs.Node, index: int) -> Use | None:
        if index >= len(node.inputs) or not node.inputs[index].name:
            return None
        uses = sites(self.graph).uses(self.table.root(node.inputs[index].name))
        return next((u for u in uses if u.reader.node is node and u.reader.index == index), None)

    def _uses(self, kernel: Kernel) -> list[Use]:
        """The tensors that a kernel reads from memory: data that none of its own nodes produce."""
        inside = {t.name for n in kernel.nodes for t in n.outputs}
        found: dict[tuple[str, int], Use] = {}
        for node in kernel.nodes:
            for index, tensor in enumerate(node.inputs):
                name = tensor.name
                made = squares.before(self.graph, name) if name else ""
                if not name or made in inside or self.graph.is_constant(name) or self._is_shape(name):
                    continue
                use = self._use(node, index)
                if use is not None:
                    found.setdefault((name, index if node.op in JOINS else 0), use)
        return list(found.values())

    def _is_shape(self, tensor: str) -> bool:
        producer = self.graph.producer(tensor)
        return producer is not None and id(producer) in self.parts.shapes

    def _kernel(self, kernel: Kernel) -> None:
        uses, node = self._uses(kernel), kernel.nodes[-1]
        move = passes(self.graph, node) if len(kernel.nodes) == 1 else None
        if kernel.core is not None:
            self._weighted(kernel, uses)
        elif move is not None:
            self._moving(kernel, uses, move[1])
        else:
            self._computing(kernel, uses)

    def _weighted(self, kernel: Kernel, uses: list[Use]) -> None:
        """A convolution with the nodes that fuse with it: R11, R12."""
        core, end = kernel.core, kernel.end
        assert core is not None
        data = {t.name for t in core.inputs[:2]}
        mine = [u for u in uses if u.tensor in data]
        others = [u for u in uses if u.tensor not in data]
        constant = [t.name for t in core.inputs[1:2] if self.graph.is_constant(t.name)]
        quantized = all(self._weight(name) is not None for name in constant)
        rounded = next((name for name in self.graph.proto(core).input[:2] if name in self.narrowed), "")
        int8 = bool(mine) and quantized and all(self.memory.offered(u).scale is not None for u in mine) and not rounded
        wanted = self.memory.wanted(end)
        side = all(self.memory.offered(u).scale is not None for u in others)
        absorbs = int8 and wanted.scale is not None and side
        why = [reason(r) for r in kernel.rules if int8 or r != "R11"]
        if not int8:
            why = [reason("F2", self._float_core(mine, quantized)), *(r for r in why if r.rule != "F2")]
        if rounded:
            why.append(reason("F5", f"it runs in floating point, because '{rounded}' had 16 bits before"))
        if others and int8 and wanted.scale is not None and not side:
            why.append(
                reason(
                    "R12", f"it writes floating point, because its other operand '{others[0].tensor}' is floating point"
                )
            )
        if others and side and not absorbs:
            why.append(reason("R12", f"its result stays floating point, so '{others[0].tensor}' is dequantized for it"))
        reads = [self.memory.read(u, self.memory.offered(u) if int8 else FLOATING) for u in mine]
        reads += [self.memory.read(u, self.memory.offered(u) if absorbs else FLOATING) for u in others]
        nodes = [*self._weights(core), *map(label, kernel.nodes)]
        layer = Layer(
            " + ".join(nodes), kernel.kind, tuple(nodes), (), tuple(reads), (), "INT8" if int8 else "", why=tuple(why)
        )
        pool = self._pool_after(kernel, absorbs)
        if pool is not None:
            nodes.append(label(pool))
            layer = replace(layer, name=" + ".join(nodes), nodes=tuple(nodes), why=(*why, reason("R16")))
            self.pooled.add(key(pool))
            end, wanted = key(pool), self.memory.wanted(key(pool))
        self.memory.write(layer, (end,), wanted if absorbs else FLOATING)

    def _float_core(self, mine: list[Use], quantized: bool) -> str:
        unquantized = [u.tensor for u in mine if self.memory.offered(u).scale is None]
        if unquantized:
            return f"it runs in floating point, because its input '{unquantized[0]}' is not quantized"
        return "" if quantized else "it runs in floating point, because its weights are not quantized"

    def _weights(self, core: gs.Node) -> list[str]:
        """The constant of a weight, as engines name it."""
        if len(core.inputs) < 2 or not self.graph.is_constant(core.inputs[1].name):
            return []
        pair = self._weight(core.inputs[1].name)
        return [] if pair is None else [pair.tensor]

    def _weight(self, name: str) -> Pair | None:
        """The pair of a weight, also before a view, Transpose or Cast."""
        while (pair := self.table.made(name)) is None:
            node = self.graph.producer(name)
            if node is None or node.op not in WEIGHT_CHAIN:
                return None
            name = node.inputs[0].name
        return pair

    def _pool_after(self, kernel: Kernel, int8: bool) -> gs.Node | None:
        """The MaxPool that fuses with a convolution: the only reader of its result, both in INT8 (R16)."""
        node = self.parts.only(kernel.end) if int8 and kernel.add is None else None
        return node if node is not None and node.op == "MaxPool" and kernel.kind == "Convolution" else None

    def _moving(self, kernel: Kernel, uses: list[Use], made: tuple[str, ...]) -> None:
        """A data-movement op: it runs on INT8 if possible (R15, R16, R27)."""
        if kernel.end in self.pooled:
            return
        rule = {"Concat": "R15", "MaxPool": "R16"}.get(kernel.nodes[0].op, "R27")
        after = {self.memory.propagation.wanted.get(name) for name in made}
        wanted = self.memory.wanted(made[0]) if len(after) == 1 else FLOATING
        offers = [self.memory.offered(u) for u in uses]
        agreed = {o.scale for o in offers}
        before = {self.memory.propagation.wanted.get(self.table.root(u.tensor)) for u in uses} == {wanted.scale}
        if wanted.scale is not None and (len(uses) > 1 or agreed == {wanted.scale} or before):
            storage = wanted  # the Q after it moves to every input: equal ones cancel, others requantize
        elif len(agreed) == 1 and None not in agreed:
            storage = offers[0]  # the DQs before it move after it
        else:
            storage = FLOATING
        reads = [self.memory.read(u, storage, clone=len(uses) > 1) for u in uses]
        why = (reason(rule, self._stays(uses, offers, wanted) if storage.scale is None else ""),)
        nodes = tuple(map(label, kernel.nodes))
        self.memory.write(Layer(nodes[0], kernel.kind, nodes, (), tuple(reads), (), "", why=why), made, storage)

    def _stays(self, uses: list[Use], offers: list[StoredType], wanted: StoredType) -> str:
        """Why a data-movement op runs on floating point."""
        unquantized = [u.tensor for u, o in zip(uses, offers, strict=True) if o.scale is None]
        if wanted.scale is not None and unquantized:
            return f"the Q after it cannot move before it: '{unquantized[0]}' has a reader that wants another scale"
        if unquantized:
            return (
                f"it moves floating point: '{unquantized[0]}' is not quantized, "
                "and the readers of the result do not all want one scale"
            )
        return "it moves floating point, because its inputs have different scales and no Q follows it"

    def _computing(self, kernel: Kernel, uses: list[Use]) -> None:
        """A layer without weights: INT8 between DQ and Q, else floating point (R17, R18, R28)."""
        first = kernel.nodes[0]
        data = [u for u in uses if self.memory.precision(u.tensor) in FLOATS.values()]
        wanted = self.memory.wanted(kernel.end)
        able = kernel.kind != NORMALIZATION and first.op not in FLOAT_ONLY and all(map(is_standard, kernel.nodes))
        quantized = bool(data) and all(self.memory.offered(u).scale is not None for u in data)
        int8 = able and quantized and wanted.scale is not None
        rule = "R28" if not able else "R17" if kernel.kind in ("Pooling", "Reduce") else "R18"
        touched = int8 or wanted.scale is not None or any(u.pair is not None for u in data)
        why = [reason(r) for r in kernel.rules]
        why += [reason(rule, "" if int8 or not able else self._float_reason(data, wanted))] if touched else []
        absorbs = set() if int8 or kernel.kind != POINTWISE else {id(u) for u in data if self.memory.is_int8(u)}
        why += [reason("F4")] if absorbs else []
        whole = [self.memory.offered(u) if (int8 and u in data) or id(u) in absorbs else FLOATING for u in uses]
        reads = [self.memory.read(u, storage) for u, storage in zip(uses, whole, strict=True)]
        nodes = tuple(map(label, kernel.nodes))
        layer = Layer(
            " + ".join(nodes), kernel.kind, nodes, (), tuple(reads), (), "INT8" if int8 else "", why=tuple(why)
        )
        made = tuple(t.name for t in kernel.nodes[-1].outputs if t.name)
        self.memory.write(layer, made, wanted if int8 else FLOATING)

    def _float_reason(self, data: list[Use], wanted: StoredType) -> str:
        unquantized = [u.tensor for u in data if self.memory.offered(u).scale is None]
        if wanted.scale is None:
            return "it runs in floating point, because not all readers of its result take INT8 with one scale"
        return (
            f"it runs in floating point, because its input '{unquantized[0]}' is not quantized" if unquantized else ""
        )
