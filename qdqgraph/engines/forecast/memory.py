"""How each tensor is stored, kernel by kernel, and the reformats where a reader wants it otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx
import onnx_graphsurgeon as gs

from ...graph.graph import Graph, Reader, key, label
from ...graph.pair import Pair, pairs
from ...graph.sites import Use
from ..layers import UNKNOWN, Layer, Reason, Tensor
from .evidence import reason
from .propagation import Propagation, ScaleKey, passes, scale_key, values

FLOATS = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "DOUBLE": "FP32"}
"""Floating-point types of ONNX, as engines call them."""


@dataclass(frozen=True)
class StoredType:
    """How a tensor is stored: on a grid as INT8, or as floating point; `pair` is the one that says so."""

    grid: ScaleKey | None = None
    pair: Pair | None = None


FLOATING = StoredType()
LEAVES = -2
"""In place of an input's index: not a node reads the tensor, it is an output of the network."""


class Memory:
    """What is stored, in which form, and all layers made so far.

    Attributes:
        grids: what the readers of each tensor want.
        layers: in the order they run.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.table, self.grids = pairs(graph), Propagation(graph)
        self.layers: list[Layer] = []
        self._forms: dict[str, StoredType] = {}
        self._views: dict[str, str] = {}
        self._copies: dict[str, Tensor] = {}
        self._converted: dict[tuple[str, ScaleKey | None, ScaleKey | None, str], Tensor] = {}

    # What is stored, and what is wanted

    def source(self, tensor: str) -> str:
        """The tensor in memory that a site shows: itself, seen through views."""
        site = self.table.root(tensor)
        while site in self._views:
            site = self.table.root(self._views[site])
        return site

    def form(self, tensor: str) -> StoredType:
        """How a site is stored."""
        return self._forms.get(self.source(tensor), FLOATING)

    def offered(self, use: Use) -> StoredType:
        """The form in which a use gets its tensor where it takes INT8: through its pair, or as it is stored."""
        return self.form(use.tensor) if use.pair is None else StoredType(scale_key(use.pair), use.pair)

    def wanted(self, tensor: str) -> StoredType:
        """The form that all readers of a tensor want."""
        grid = self.grids.wanted.get(tensor)
        return FLOATING if grid is None else StoredType(grid, self._pair_after(tensor, grid))

    def _pair_after(self, tensor: str, grid: ScaleKey) -> Pair | None:
        """The pair with this grid that quantizes the tensor, or what moves make of it."""
        pending, seen = [tensor], set()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            found = [u.pair for u in values(self.graph, name)] + self.grids.leaving.get(name, [])
            if (pair := next((p for p in found if p is not None and scale_key(p) == grid), None)) is not None:
                return pair
            for use in values(self.graph, name):
                if use.pair is None and (move := passes(self.graph, use.reader.node)):
                    pending += move[1]
        return None

    # Writing

    def write(self, layer: Layer, made: tuple[str, ...], form: StoredType) -> None:
        """Adds a layer that makes these tensors in this form; the Q that it absorbs is noted with it."""
        for name in made:
            self._forms[name] = form
        quantize = form.pair.quantize if form.pair is not None else None
        absorbed = (label(quantize),) if quantize is not None and layer.kind not in ("Concat", "Move") else ()
        outputs = tuple(self.stored(name, form) for name in made)
        precision = layer.precision or _widest(layer.inputs) or (outputs[0].precision if outputs else UNKNOWN)
        self.layers.append(replace(layer, outputs=outputs, precision=precision, quantizers=absorbed))

    def view(self, made: str, use: Use) -> None:
        """Another shape of the same memory; a pair in front moves over it."""
        form = self.offered(use)
        if form.grid is None or form.grid == self.form(use.tensor).grid:
            self._views[made] = use.tensor
        else:
            self._copies[made], self._forms[made] = self.read(use, form), form

    def leave(self, name: str) -> None:
        """An output of the network: a pair there, or INT8 storage, ends in a DQ (R30); a view gets its own name."""
        node, pair = self.graph.producer(name), self.table.made(name)
        if node is None:
            return
        source = self.source(name)
        if pair is not None or self.form(name).grid is not None:
            self.read(Use(Reader(node, LEAVES), name, pair), FLOATING)
        elif source != name:
            stored = self.stored(source, FLOATING)
            out = replace(self.stored(name, FLOATING), precision=stored.precision)
            self.layers.append(Layer(label(node), "NoOp", (label(node),), (), (stored,), (out,), stored.precision))

    # Reading

    def read(self, use: Use, form: StoredType, *, clone: bool = False) -> Tensor:
        """The tensor as a kernel reads it, converted by a reformat where it is stored in another form."""
        source = self.source(use.tensor)
        have = self._forms.get(source, FLOATING)
        if have.grid is None and form.grid is None and use.pair is not None:
            # Nothing absorbs the pair: its rounding is executed, there and back.
            there = StoredType(scale_key(use.pair), use.pair)
            self._as(use, source, have, there, clone=clone)
            have = there
        return self.stored(source, have) if have.grid == form.grid else self._as(use, source, have, form, clone=clone)

    def _as(self, use: Use, source: str, have: StoredType, form: StoredType, *, clone: bool) -> Tensor:
        """What a reformat makes of a tensor; made once for all that want the same."""
        apart = use.tensor if use.reader.index == LEAVES and form.grid is None else ""
        step = (source, have.grid, form.grid, apart)
        if step not in self._converted:
            stored = self._converted.get((source, None, have.grid, "")) or self.stored(source, have)
            quantizers, made = _names(form.pair if form.grid is not None else use.pair or have.pair, use, form)
            if have.pair is not None and form.grid is not None:
                quantizers = (*map(label, have.pair.dequantizes[:1]), *quantizers)
            made = made or f"{source} as {'INT8' if form.grid is not None else 'floating point'}"
            made = f"{made}_clone" if clone and form.pair is not use.pair else made
            out = replace(self.stored(apart or source, form), name=apart or made)
            self._copy(quantizers, stored, out, reason(*self._left_over(use, source, have, form)))
            self._converted[step] = out
        return self._converted[step]

    def _copy(self, quantizers: tuple[str, ...], stored: Tensor, out: Tensor, why: Reason) -> None:
        name = " + ".join(quantizers) or f"reformat of {stored.name}"
        made = Layer(name, "Reformat", (), quantizers, (stored,), (out,), out.precision, "Q/DQ", why=(why,))
        self.layers.append(made)

    def _left_over(self, use: Use, source: str, have: StoredType, form: StoredType) -> tuple[str, str]:
        """The rule by which a Q or DQ is left over, and what it means here."""
        reader, producer = label(use.reader.node), self.graph.producer(source)
        if source in self.graph.inputs and have.grid is None:
            return "R30", f"'{source}' enters the network as floating point and is quantized for {reader}"
        if have.grid is not None and form.grid is not None:
            return "R15", f"'{source}' is stored with another scale than {reader} wants: it is quantized again"
        if use.reader.index == LEAVES and form.grid is None:
            return "R30", f"'{use.tensor}' leaves the network as floating point"
        if have.grid is not None:
            return "R18", f"{reader} computes in floating point, so '{source}' is dequantized for it"
        if source not in self.grids.wanted:
            return "R14", f"'{source}' has readers that want floating point or another scale, so it is quantized apart"
        maker = label(producer) if producer is not None else source
        return "R18", f"{maker} cannot write INT8, so '{source}' is quantized behind it"

    # Tensors

    def stored(self, name: str, form: StoredType) -> Tensor:
        """The tensor as it lies in memory; an open batch is 1, any other open dimension -1."""
        if name in self._copies:
            return self._copies[name]
        shape = self.graph.shape(name)
        dims = (-1,) if shape is None else tuple((-1 if i else 1) if d is None else d for i, d in enumerate(shape))
        return Tensor(name, dims, "INT8" if form.grid is not None else self.precision(name))

    def precision(self, name: str) -> str:
        """The type of a tensor that is not quantized: the file's, but FP16 inside a weakly typed network."""
        kind = onnx.TensorProto.DataType.Name(self.graph.dtype(name) or onnx.TensorProto.FLOAT)
        if kind not in FLOATS:
            return kind
        inside = name not in self.graph.inputs and name not in self.graph.outputs
        return "FP16" if inside and not self.graph.target.strong and kind == "FLOAT" else FLOATS[kind]


def _widest(tensors: tuple[Tensor, ...]) -> str:
    """The floating-point type among these, else the first's type."""
    floats = [t.precision for t in tensors if t.precision in FLOATS.values()]
    return floats[0] if floats else tensors[0].precision if tensors else ""


def _names(pair: Pair | None, use: Use, form: StoredType) -> tuple[tuple[str, ...], str]:
    """The label of a Q, or of a DQ on the way to floating point, as a tuple; and the tensor that it makes."""
    node: gs.Node | None = None
    if pair is not None and form.grid is not None:
        node = pair.quantize
    elif pair is not None:
        same = (d for d in pair.dequantizes if key(d) == use.tensor)
        node = next(same, pair.dequantizes[0] if pair.dequantizes else None)
    return ((label(node),), key(node)) if node is not None else ((), "")
