"""Which kernels TensorRT forms from a graph with Q/DQ, by its documented rules only.

The nodes are divided into kernels (`kernels`), Q and DQ move to where they can be absorbed (`propagation`), and what no
kernel absorbs is a reformat (`memory`). What TensorRT decides by timing, above all layouts, is not forecast.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from ...errors import counted
from ...graph import squares
from ...graph.casts import narrowed
from ...graph.graph import Graph, key, label
from ...graph.pair import Pair, pairs
from ...graph.sites import Use, sites
from ...model.protos import is_standard
from ...operators import FLOAT_ONLY, JOINS, VIEWS
from ..layers import EIGHT_BITS, PREDICTED, Engine, Layer, Reason, Tensor
from .evidence import reason
from .kernels import NORMALIZATION, POINTWISE, VIEW, Kernel, Partition
from .memory import Memory
from .patterns import has_int8_pool
from .propagation import carries_dequantize, passes, site_of, values
from .stored import FLOATING, FLOATS, StoredType

WEIGHT_CHAIN = VIEWS | {"Transpose", "Cast"}
"""Operators between a weight's pair and its reader through which the weight stays quantized."""


def forecast(graph: Graph, name: str, *, together: bool = False) -> Engine:
    """The engine that the documented rules predict for the graph's target.

    Args:
        graph: the graph, with its target.
        name: the name of the engine.
        together: where TensorRT decides by timing whether nodes fuse, they do; otherwise they do not, which is more
            kernels and bytes (T1).
    """
    layers = _Forecast(graph, together).layers()
    notes = ["a forecast by documented rules: it excludes layouts and what TensorRT decides by timing"]
    if any(-1 in t.dims for layer in layers for t in (*layer.inputs, *layer.outputs)):
        notes.append("a tensor with a dynamic dimension has no known size and counts as 0 bytes; a dynamic batch is 1")
    if undecided := sum(bool(layer.alternative) for layer in layers):
        chosen = "fused" if together else "separate kernels"
        notes.append(f"TensorRT decides about {counted(undecided, 'fusion')} by timing; the forecast counts {chosen}")
    ends = (*(t.name for t in graph.gs.inputs), *(t.name for t in graph.gs.outputs))
    return Engine(name, f"{PREDICTED}{graph.target.name}", layers, ends, notes=tuple(notes))


def fused(graph: Graph, name: str) -> Engine:
    """The forecast whose numbers `check` and `fix` show, and by which `fix` refuses repairs.

    Where TensorRT decides by timing whether nodes fuse, they do. Otherwise a repair that lets nodes fuse, such as one
    that removes the pair between SiLU and an Add, would count as one that adds bytes.

    Args:
        graph: the graph, with its target.
        name: the name of the engine.
    """
    return forecast(graph, name, together=True)


class _Forecast:
    """One pass over the kernels in execution order; each reads the outputs of earlier ones, converted if necessary."""

    def __init__(self, graph: Graph, together: bool) -> None:
        self.graph, self.memory, self.together = graph, Memory(graph), together
        self.table, self.parts = pairs(graph), Partition(graph, together=together)
        self.pooled: set[str] = set()
        self.quantizers: dict[str, Pair | None] = {}
        """The pairs of weights, by the tensors between a pair and the reader."""
        self.narrowed = narrowed(graph.model, graph.casts, graph.dtype)

    def layers(self) -> tuple[Layer, ...]:
        """All layers, in execution order."""
        for kernel in self.parts.kernels:
            if kernel.kind != VIEW:
                self._kernel(kernel)
            elif (use := sites(self.graph).use(kernel.nodes[0], 0)) is not None:
                self.memory.view(kernel.end, use)
        for name in dict.fromkeys(self.graph.source(tensor.name) for tensor in self.graph.gs.outputs):
            self.memory.leave(name)
        return self.memory.finished()

    def _uses(self, kernel: Kernel) -> list[Use]:
        """The tensors that a kernel reads from memory: data that none of its own nodes produce."""
        inside = {t.name for n in kernel.nodes for t in n.outputs}
        members = {id(n) for n in kernel.nodes}
        found: dict[tuple[str, int], Use] = {}
        for node in kernel.nodes:
            for index, tensor in enumerate(node.inputs):
                name = tensor.name
                if not name or self.graph.is_constant(name) or self._is_shape(name):
                    continue
                if squares.before(self.graph, name) in inside:
                    continue
                if kernel.generated and id(self.parts.origin(name)) in members:
                    continue
                use = sites(self.graph).use(node, index)
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
        elif kernel.generated:
            self._generated(kernel, uses)
        elif move is not None:
            self._moving(kernel, uses, move[1])
        else:
            self._computing(kernel, uses)

    def _weighted(self, kernel: Kernel, uses: list[Use]) -> None:
        """A convolution with the nodes that fuse with it: R11, R12."""
        core, end = kernel.core, kernel.end
        assert core is not None
        mine, others = self._operands(kernel, uses)
        constant = [t.name for t in core.inputs[1:2] if self.graph.is_constant(t.name)]
        quantized = all(self._weight(name) is not None for name in constant)
        rounded = next((name for name in self.graph.proto(core).input[:2] if name in self.narrowed), "")
        able = core.op != "ConvTranspose" or self.graph.target.deconvolution_int8
        offers, beside = ([self.memory.offered(u) for u in read] for read in (mine, others))
        int8 = bool(mine) and quantized and all(offer.scale is not None for offer in offers)
        int8 = int8 and able and not rounded
        wanted = self._wanted(kernel)
        side = all(offer.scale is not None for offer in beside)
        absorbs = int8 and wanted.scale is not None and side
        why = [_undecided(_names(kernel.alternative)) if r == "T1" else reason(r) for r in kernel.rules]
        why = [r for r in why if int8 or r.rule != "R11"]
        if not int8:
            why = [reason("F2", self._float_core(mine, quantized)), *(r for r in why if r.rule != "F2")]
        if rounded:
            why.append(reason("F5", f"it runs in floating point, because '{rounded}' had 16 bits before"))
        if wanted.scale != self.memory.wanted(end).scale:
            why.append(reason("F10"))
        if others and int8 and wanted.scale is not None and not side:
            why.append(
                reason(
                    "R12", f"it writes floating point, because its other operand '{others[0].tensor}' is floating point"
                )
            )
        if others and side and not absorbs:
            why.append(reason("R12", f"its result stays floating point, so '{others[0].tensor}' is dequantized for it"))
        half = not int8 and not self.graph.target.strong
        read, read_float = self.memory.read, self.memory.read_float
        reads = [read(u, o) if int8 else read_float(u, half) for u, o in zip(mine, offers, strict=True)]
        reads += [read(u, o if absorbs else FLOATING) for u, o in zip(others, beside, strict=True)]
        nodes = (*self._weights(core), *map(label, kernel.nodes))
        precision = offers[0].precision if int8 else ""
        made, other = " + ".join(nodes), _names(kernel.alternative)
        layer = Layer(made, kernel.kind, nodes, (), tuple(reads), (), precision, why=tuple(why), alternative=other)
        pool = self._pool_after(kernel, absorbs)
        if pool is not None:
            layer, fused = self._pooled(layer, kernel, pool)
            after = self.memory.wanted(key(pool))
            end, wanted = (key(pool), after if after.scale is not None else wanted) if fused else (end, wanted)
        self.memory.write(layer, (end,), wanted if absorbs else FLOATING, half=half)

    def _operands(self, kernel: Kernel, uses: list[Use]) -> tuple[list[Use], list[Use]]:
        """What a weighted kernel multiplies, and what else it reads; a pair after its Pad moves before it."""
        assert kernel.core is not None
        data = {t.name for t in kernel.core.inputs[:2]}
        mine = [u for u in uses if u.tensor in data]
        others = [u for u in uses if u.tensor not in data]
        if kernel.pad is not None:
            first, pair = kernel.pad.inputs[0].name, self.table.made(kernel.core.inputs[0].name)
            mine = [Use(u.reader, u.tensor, u.pair or pair) for u in others if u.tensor == first] + mine
            others = [u for u in others if u.tensor != first]
        return mine, others

    def _pooled(self, layer: Layer, kernel: Kernel, pool: gs.Node) -> tuple[Layer, bool]:
        """The layer with the MaxPool after it (R16), and whether they fuse; only a stem is known to."""
        assert kernel.core is not None
        stem = self._is_stem(kernel.core)
        nodes = (*layer.nodes, label(pool))
        if not stem:
            other = (layer.nodes, (label(pool),)) if self.together else (nodes,)
            layer = replace(layer, alternative=other, why=(*layer.why, _undecided(other)))
        if not stem and not self.together:
            return layer, False
        self.pooled.add(key(pool))
        return replace(layer, name=" + ".join(nodes), nodes=nodes, why=(*layer.why, reason("R16"))), True

    def _wanted(self, kernel: Kernel) -> StoredType:
        """The type that all readers of a weighted kernel want; a ConvTranspose writes it only for its own Q (F10)."""
        wanted = self.memory.wanted(kernel.end)
        if kernel.core is None or kernel.core.op != "ConvTranspose":
            return wanted
        own = all(u.pair is not None for u in values(self.graph, kernel.end))
        return wanted if own else FLOATING

    def _is_stem(self, core: gs.Node) -> bool:
        """Whether a convolution reads a network input, through nothing but pairs, views and Pads."""
        name = site_of(self.graph, core.inputs[0].name)
        while (node := self.graph.producer(name)) is not None and node.op in VIEWS | {"Pad"}:
            name = site_of(self.graph, node.inputs[0].name)
        return name in self.graph.inputs

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
        passed: list[str] = []
        while name not in self.quantizers:
            passed.append(name)
            pair, node = self.table.made(name), self.graph.producer(name)
            if pair is not None or node is None or node.op not in WEIGHT_CHAIN:
                self.quantizers[name] = pair
                break
            name = node.inputs[0].name
        self.quantizers.update(dict.fromkeys(passed, self.quantizers[name]))
        return self.quantizers[name]

    def _pool_after(self, kernel: Kernel, int8: bool) -> gs.Node | None:
        """The MaxPool that fuses with a convolution: the only reader of its result, both INT8 with one scale (R16)."""
        uses = values(self.graph, kernel.end)
        if not int8 or kernel.add is not None or kernel.kind != "Convolution" or len(uses) != 1:
            return None
        use, after = uses[0], self.memory.wanted(key(uses[0].reader.node)).scale
        alone = use.reader.index >= 0 and kernel.end not in self.parts.ends and use.reader.node.op == "MaxPool"
        alike = use.pair is None or after in (None, use.pair.scale_key)
        return use.reader.node if alone and alike else None

    def _moving(self, kernel: Kernel, uses: list[Use], made: tuple[str, ...]) -> None:
        """A data-movement op: it runs on INT8 if possible (R15, R16, R27)."""
        if kernel.end in self.pooled:
            return
        rule = {"Concat": "R15", "MaxPool": "R16"}.get(kernel.nodes[0].op, "R27")
        after = {self.memory.propagation.wanted.get(name) for name in made}
        wanted = self.memory.wanted(made[0]) if len(after) == 1 else FLOATING
        offers = [self.memory.offered(u) for u in uses]
        agreed = {o.scale for o in offers}
        wants = self.memory.propagation.wanted
        before = {
            wanted.scale if self.memory.is_generated(u.tensor) else wants.get(site_of(self.graph, u.tensor))
            for u in uses
        } == {wanted.scale}
        if wanted.scale is not None and (len(uses) > 1 or agreed == {wanted.scale} or before):
            storage = wanted  # the Q after it moves to every input: equal ones cancel, others requantize
        elif len(agreed) == 1 and None not in agreed and carries_dequantize(self.graph, kernel.nodes[0]):
            storage = offers[0]  # the DQs before it move after it
        else:
            storage = FLOATING
        reads = [self.memory.read(u, storage, clone=len(uses) > 1) for u in uses]
        why = (reason(rule, self._stays(uses, offers, wanted) if storage.scale is None else ""),)
        nodes = tuple(map(label, kernel.nodes))
        layer = Layer(nodes[0], kernel.kind, nodes, (), tuple(reads), (), "", why=why)
        alone = kernel.kind not in ("Concat", "Move") and any(u.pair is not None for u in uses)
        self.memory.write(layer, made, storage, moves=not alone)

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

    def _generated(self, kernel: Kernel, uses: list[Use]) -> None:
        """A kernel that is generated for its nodes: Q and DQ run inside it, and it writes what is read (F6, F7)."""
        offers = [self.memory.offered(u) for u in uses]
        moves = all(carries_dequantize(self.graph, n) for n in kernel.nodes)
        agreed = {o.scale for o in offers}
        form = offers[0] if moves and len(agreed) == 1 else FLOATING  # the DQs before data movement run after it
        reads = [self.memory.taken(u) for u in uses]
        inside = self._pairs_inside(kernel, uses, reads)
        why = [reason(r) for r in kernel.rules]
        why += [reason("F7")] if inside else []
        why += [reason("F4")] if any(t.precision in EIGHT_BITS for t in reads) else []
        nodes = tuple(map(label, kernel.nodes))
        quantizers = tuple(dict.fromkeys(label(p.quantize) for p in inside if p.quantize is not None))
        layer = Layer(" + ".join(nodes), kernel.kind, nodes, quantizers, tuple(reads), (), "", why=tuple(why))
        made = tuple(t.name for n in kernel.nodes for t in n.outputs if t.name)
        self.memory.generate(layer, tuple(reversed(made)), form)

    def _pairs_inside(self, kernel: Kernel, uses: list[Use], reads: list[Tensor]) -> list[Pair]:
        """The pairs that a generated kernel computes: between its nodes, and of values that it reads unquantized."""
        floats = FLOATS.values()
        found = [u.pair for u, t in zip(uses, reads, strict=True) if u.pair is not None and t.precision in floats]
        members = {id(node) for node in kernel.nodes}
        names = [t.name for n in kernel.nodes for t in n.inputs if t.name and id(self.parts.origin(t.name)) in members]
        return [*found, *(pair for name in names if (pair := self.table.made(name)) is not None)]

    def _computing(self, kernel: Kernel, uses: list[Use]) -> None:
        """A layer without weights: INT8 between DQ and Q, else floating point (R17, R18, R28)."""
        first = kernel.nodes[0]
        data = [u for u in uses if self.memory.precision(u.tensor) in FLOATS.values()]
        wanted = self.memory.wanted(kernel.end)
        able = kernel.kind != NORMALIZATION and first.op not in FLOAT_ONLY and all(map(is_standard, kernel.nodes))
        able = able and has_int8_pool(self.graph, first)
        quantized = bool(data) and all(self.memory.offered(u).scale is not None for u in data)
        int8 = able and quantized and wanted.scale is not None
        rule = "R28" if not able else "R17" if kernel.kind in ("Pooling", "Reduce") else "R18"
        touched = int8 or wanted.scale is not None or any(u.pair is not None for u in data)
        why = [reason(r) for r in kernel.rules]
        why += [reason(rule, "" if int8 or not able else self._float_reason(data, wanted))] if touched else []
        why += [reason("F9")] if first.op in self.graph.target.unmoved else []
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


def _names(kernels: tuple[tuple[gs.Node, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(label, nodes)) for nodes in kernels)


def _undecided(kernels: tuple[tuple[str, ...], ...]) -> Reason:
    """The reason for a kernel that TensorRT may form otherwise."""
    said = " and ".join(f"[{' + '.join(nodes)}]" for nodes in kernels)
    return reason("T1", f"TensorRT decides by timing; it may form {said} instead")
