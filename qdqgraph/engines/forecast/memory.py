"""How each tensor is stored, kernel by kernel, and the reformats for readers that want another type or scale."""

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
    """How a tensor is stored: as INT8 with a scale, or as floating point if `scale` is None.

    Attributes:
        scale: the scale of the integers.
        pair: a pair with that scale.
    """

    scale: ScaleKey | None = None
    pair: Pair | None = None


FLOATING = StoredType()
LEAVES = -2
"""In place of an input's index: no node reads the tensor, it is a network output."""


class Memory:
    """How the tensors are stored, and all layers so far.

    Attributes:
        propagation: the scales that the readers of each tensor want.
        layers: in execution order.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.table, self.propagation = pairs(graph), Propagation(graph)
        self.layers: list[Layer] = []
        self._storage: dict[str, StoredType] = {}
        self._views: dict[str, str] = {}
        self._copies: dict[str, Tensor] = {}
        self._converted: dict[tuple[str, ScaleKey | None, ScaleKey | None, str], Tensor] = {}

    # What is stored, and what is wanted

    def source(self, tensor: str) -> str:
        """The stored tensor of a site, seen through pairs and views."""
        site = self.table.root(tensor)
        while site in self._views:
            site = self.table.root(self._views[site])
        return site

    def storage(self, tensor: str) -> StoredType:
        """How a tensor's site is stored."""
        return self._storage.get(self.source(tensor), FLOATING)

    def offered(self, use: Use) -> StoredType:
        """The type that a use can read as INT8: that of its pair, or as stored."""
        return self.storage(use.tensor) if use.pair is None else StoredType(scale_key(use.pair), use.pair)

    def is_int8(self, use: Use) -> bool:
        """Whether the tensor is stored as the integers that the use can read."""
        offered = self.offered(use)
        return offered.scale is not None and offered.scale == self.storage(use.tensor).scale

    def wanted(self, tensor: str) -> StoredType:
        """The type that all readers of a tensor want."""
        scale = self.propagation.wanted.get(tensor)
        return FLOATING if scale is None else StoredType(scale, self._pair_after(tensor, scale))

    def _pair_after(self, tensor: str, scale: ScaleKey) -> Pair | None:
        """The pair with this scale that quantizes the tensor, or the results of data-movement ops on it."""
        pending, seen = [tensor], set()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            found = [u.pair for u in values(self.graph, name)] + self.propagation.leaving.get(name, [])
            if (pair := next((p for p in found if p is not None and scale_key(p) == scale), None)) is not None:
                return pair
            for use in values(self.graph, name):
                if use.pair is None and (move := passes(self.graph, use.reader.node)):
                    pending += move[1]
        return None

    # Writing

    def write(self, layer: Layer, made: tuple[str, ...], storage: StoredType) -> None:
        """Adds a layer that writes these tensors as this type, with the Q that it absorbs."""
        for name in made:
            self._storage[name] = storage
        quantize = storage.pair.quantize if storage.pair is not None else None
        absorbed = (label(quantize),) if quantize is not None and layer.kind not in ("Concat", "Move") else ()
        outputs = tuple(self.stored(name, storage) for name in made)
        precision = layer.precision or _data_type((*layer.inputs, *outputs))
        self.layers.append(replace(layer, outputs=outputs, precision=precision, quantizers=absorbed))

    def view(self, made: str, use: Use) -> None:
        """Adds a view: another shape of the same memory; a pair before it moves over it."""
        storage = self.offered(use)
        if storage.scale is None or storage.scale == self.storage(use.tensor).scale:
            self._views[made] = use.tensor
        else:
            self._copies[made], self._storage[made] = self.read(use, storage), storage

    def leave(self, name: str) -> None:
        """Adds what a network output needs: a DQ after a pair or INT8 storage (R30); a NoOp that names a view."""
        node, pair = self.graph.producer(name), self.table.made(name)
        if node is None:
            return
        source = self.source(name)
        if pair is not None or self.storage(name).scale is not None:
            self.read(Use(Reader(node, LEAVES), name, pair), FLOATING)
        elif source != name:
            stored = self.stored(source, FLOATING)
            out = replace(self.stored(name, FLOATING), precision=stored.precision)
            self.layers.append(Layer(label(node), "NoOp", (label(node),), (), (stored,), (out,), stored.precision))

    # Reading

    def read(self, use: Use, storage: StoredType, *, clone: bool = False) -> Tensor:
        """The tensor as a kernel reads it; adds a reformat if it is stored otherwise."""
        source = self.source(use.tensor)
        have = self._storage.get(source, FLOATING)
        if have.scale is None and storage.scale is None and use.pair is not None:
            # No kernel absorbs the pair: Q and DQ both run as reformats.
            there = StoredType(scale_key(use.pair), use.pair)
            self._as(use, source, have, there, clone=clone)
            have = there
        return (
            self.stored(source, have)
            if have.scale == storage.scale
            else self._as(use, source, have, storage, clone=clone)
        )

    def _as(self, use: Use, source: str, have: StoredType, storage: StoredType, *, clone: bool) -> Tensor:
        """The result of a reformat, added once for all readers that want the same type."""
        apart = use.tensor if use.reader.index == LEAVES and storage.scale is None else ""
        step = (source, have.scale, storage.scale, apart)
        if step not in self._converted:
            stored = self._converted.get((source, None, have.scale, "")) or self.stored(source, have)
            quantizers, made = _names(
                storage.pair if storage.scale is not None else use.pair or have.pair, use, storage
            )
            if have.pair is not None and storage.scale is not None:
                quantizers = (*map(label, have.pair.dequantizes[:1]), *quantizers)
            made = made or f"{source} as {'INT8' if storage.scale is not None else 'floating point'}"
            made = f"{made}_clone" if clone and storage.pair is not use.pair else made
            out = replace(self.stored(apart or source, storage), name=apart or made)
            if storage.scale is None and not apart:  # a dequantized network input is inside the network
                out = replace(out, precision=self._float(source, inside=True))
            self._copy(quantizers, stored, out, reason(*self._left_over(use, source, have, storage)))
            self._converted[step] = out
        return self._converted[step]

    def _copy(self, quantizers: tuple[str, ...], stored: Tensor, out: Tensor, why: Reason) -> None:
        name = " + ".join(quantizers) or f"reformat of {stored.name}"
        made = Layer(name, "Reformat", (), quantizers, (stored,), (out,), out.precision, "Q/DQ", why=(why,))
        self.layers.append(made)

    def _left_over(self, use: Use, source: str, have: StoredType, storage: StoredType) -> tuple[str, str]:
        """The rule by which a Q or DQ remains, and the text for this case."""
        reader, producer = label(use.reader.node), self.graph.producer(source)
        if source in self.graph.inputs and have.scale is None:
            return "R30", f"'{source}' enters the network as floating point and is quantized for {reader}"
        if have.scale is not None and storage.scale is not None:
            return "R15", f"'{source}' is stored with another scale than {reader} wants: it is requantized"
        if use.reader.index == LEAVES and storage.scale is None:
            return "R30", f"'{use.tensor}' leaves the network as floating point"
        if have.scale is not None:
            return "R18", f"{reader} computes in floating point, so '{source}' is dequantized for it"
        if source not in self.propagation.wanted:
            return (
                "R14",
                f"'{source}' has readers that want floating point or another scale, so it is quantized separately",
            )
        maker = label(producer) if producer is not None else source
        return "R18", f"{maker} cannot write INT8, so '{source}' is quantized after it"

    # Tensors

    def stored(self, name: str, storage: StoredType) -> Tensor:
        """The tensor in memory; a dynamic batch is 1, any other dynamic dimension -1."""
        if name in self._copies and storage.scale == self._storage[name].scale:
            return self._copies[name]
        shape = self.graph.shape(name)
        dims = (-1,) if shape is None else tuple((-1 if i else 1) if d is None else d for i, d in enumerate(shape))
        return Tensor(name, dims, "INT8" if storage.scale is not None else self.precision(name))

    def precision(self, name: str) -> str:
        """The type of a tensor that is not stored as INT8: the file's, but FP16 for FP32 inside a weakly typed net."""
        return self._float(name, inside=name not in self.graph.inputs and name not in self.graph.outputs)

    def _float(self, name: str, *, inside: bool) -> str:
        kind = onnx.TensorProto.DataType.Name(self.graph.dtype(name) or onnx.TensorProto.FLOAT)
        if kind not in FLOATS:
            return kind
        return "FP16" if inside and not self.graph.target.strong and kind == "FLOAT" else FLOATS[kind]


def _data_type(tensors: tuple[Tensor, ...]) -> str:
    """The type of the data among a layer's inputs and outputs: the first floating-point type, else INT8, else any.

    A Gather, Scatter or Where reads indices or conditions besides its data, and its data may be a constant, which is
    not among the inputs; a TopK writes indices. Those are INT32, INT64 or BOOL and do not decide the precision.
    """
    found = [t.precision for t in tensors]
    floats = [t for t in found if t in FLOATS.values()]
    return next(iter([*floats, *(t for t in found if t == "INT8"), *found]), UNKNOWN)


def _names(pair: Pair | None, use: Use, storage: StoredType) -> tuple[tuple[str, ...], str]:
    """The label of a Q, or of a DQ for a conversion to floating point, as a tuple; and the tensor that it produces."""
    node: gs.Node | None = None
    if pair is not None and storage.scale is not None:
        node = pair.quantize
    elif pair is not None:
        same = (d for d in pair.dequantizes if key(d) == use.tensor)
        node = next(same, pair.dequantizes[0] if pair.dequantizes else None)
    return ((label(node),), key(node)) if node is not None else ((), "")
