"""How each tensor is stored, kernel by kernel, and the reformats for readers that want another type or scale."""

from __future__ import annotations

from dataclasses import replace

import onnx
import onnx_graphsurgeon as gs

from ...graph.graph import Graph, Reader, key, label
from ...graph.pair import Pair, pairs
from ...graph.sites import Use
from ...operators import members
from ..layers import Layer, Reason, Tensor
from .evidence import reason
from .propagation import Propagation, ScaleKey, passes, site_of, values
from .stored import FLOATING, FLOATS, StoredType, data_type, renamed, type_name

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
        self._views: dict[str, tuple[str, str]] = {}
        """By view: the stored tensor, and the tensor or view upstream whose type it has."""
        self._after: dict[tuple[str, ScaleKey], Pair | None] = {}
        self._copies: dict[str, Tensor] = {}
        self._converted: dict[tuple[str, ScaleKey | None, ScaleKey | None, str], Tensor] = {}
        self._halves: set[str] = set()
        self._writers: dict[str, int] = {}
        self._versions: dict[tuple[str, ScaleKey | None, str], Tensor] = {}
        self._made: dict[int, list[tuple[Tensor, tuple[str, ...], bool]]] = {}
        """By generated kernel: what it writes, the Q that it absorbs for that, and whether that is quantized."""

    # What is stored, and what is wanted

    def source(self, tensor: str) -> str:
        """The stored tensor of a site, seen through pairs and views."""
        site = site_of(self.graph, tensor)
        return self._views[site][0] if site in self._views else site

    def storage(self, tensor: str) -> StoredType:
        """How a tensor's site is stored."""
        return self._storage.get(self._typed(tensor), FLOATING)

    def _typed(self, tensor: str) -> str:
        """The tensor or view that has the type of a tensor's site."""
        site = site_of(self.graph, tensor)
        return self._views[site][1] if site not in self._storage and site in self._views else site

    def is_generated(self, tensor: str) -> bool:
        """Whether a generated kernel writes the tensor: in every type that its readers want."""
        return self.source(tensor) in self._writers

    def offered(self, use: Use) -> StoredType:
        """The type that a use can read as INT8: that of its pair, or as stored."""
        return self.storage(use.tensor) if use.pair is None else StoredType.of(use.pair)

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
        known, pending = self._after, [tensor]
        while pending:
            name = pending[-1]
            if (name, scale) in known:
                pending.pop()
                continue
            uses = values(self.graph, name)
            pair = self.propagation.quantizing(name).get(scale)
            moves = [passes(self.graph, u.reader.node) for u in uses if u.pair is None] if pair is None else []
            following = [made for move in moves if move for made in move[1]]
            left = [made for made in following if (made, scale) not in known]
            if left:
                pending += left
            else:
                others = (known[made, scale] for made in reversed(following))  # the last one first
                known[name, scale] = pair or next((p for p in others if p is not None), None)
        return known[tensor, scale]

    # Writing

    def write(
        self, layer: Layer, made: tuple[str, ...], storage: StoredType, *, half: bool = False, moves: bool = False
    ) -> None:
        """Adds a layer that writes these tensors as this type, with the Q that it absorbs.

        Args:
            half: it computes and writes FP16; a network output in FP32 is converted after it (F12).
            moves: it moves data, so that a Q after it runs before it.
        """
        for name in made:
            self._storage[name] = storage
        quantize = storage.pair.quantize if storage.pair is not None else None
        absorbed = (label(quantize),) if quantize is not None and not moves else ()
        outputs = tuple(self.stored(name, storage) for name in made)
        precision = layer.precision or data_type((*layer.inputs, *outputs))
        wide = outputs if half else ()
        narrow = tuple(replace(t, name=f"{t.name} as FP16", precision="FP16") for t in wide if t.precision == "FP32")
        self._halves.update(made if half else ())
        outputs = narrow or outputs
        self.layers.append(replace(layer, outputs=outputs, precision=precision, quantizers=absorbed))
        for before, after in zip(narrow, wide, strict=False):
            self._convert(before, after)

    def _convert(self, stored: Tensor, out: Tensor) -> None:
        """Adds a conversion between two floating-point types."""
        name = f"{stored.precision} to {out.precision}: {out.name}"
        self.layers.append(
            Layer(name, "Reformat", (), (), (stored,), (out,), out.precision, "type", why=(reason("F12"),))
        )

    def generate(self, layer: Layer, made: tuple[str, ...], form: StoredType) -> None:
        """Adds a generated kernel. Each reader of a tensor that it makes adds the type that it reads to the outputs.

        Args:
            form: the type in which a reader without a pair reads the results.
        """
        for name in made:
            self._writers[name] = len(self.layers)
            if form.scale is not None:
                self._storage[name] = form
        self.layers.append(layer)

    def _version(self, source: str, storage: StoredType, apart: str = "") -> Tensor:
        """A generated tensor in one type, as an output of its kernel; `apart`: as the network output of this name."""
        step = (source, storage.scale, apart)
        if step not in self._versions:
            quantize = storage.pair.quantize if storage.pair is not None else None
            other = key(quantize) if quantize is not None else f"{source} as {storage.precision}"
            name = apart or (other if storage.precision else source)
            stored = self.stored(apart or source, storage)
            made = self._versions[step] = stored if name == stored.name else replace(stored, name=name)
            entry = made, () if quantize is None else (label(quantize),), storage.scale is not None
            self._made.setdefault(self._writers[source], []).append(entry)
        return self._versions[step]

    def finished(self) -> tuple[Layer, ...]:
        """All layers; a generated tensor that is stored once has its own name, whatever its type."""
        for name, index in self._writers.items():
            if index not in self._made:
                self._version(name, FLOATING)
        for index, versions in self._made.items():
            layer = self.layers[index]
            outputs = tuple(made for made, *_ in versions)
            quantizers = dict.fromkeys((*layer.quantizers, *(q for _, absorbed, _ in versions for q in absorbed)))
            why = (reason("F7"),) if any(inside for *_, inside in versions) and reason("F7") not in layer.why else ()
            self.layers[index] = replace(layer, outputs=outputs, quantizers=tuple(quantizers), why=(*layer.why, *why))
        kinds: dict[str, list[Tensor]] = {}
        for (source, *_), made in self._versions.items():
            kinds.setdefault(source, []).append(made)
        once = {source: made[0].name for source, made in kinds.items() if len(made) == 1}
        names = {name: source for source, name in once.items() if name != source and name not in self.graph.outputs}
        for index, layer in enumerate(self.layers):
            tensors = (*layer.inputs, *layer.outputs)
            if not layer.precision or any(t.name in names for t in tensors):
                precision, ins, outs = layer.precision or data_type(tensors), layer.inputs, layer.outputs
                ins, outs = renamed(ins, names), renamed(outs, names)
                self.layers[index] = replace(layer, inputs=ins, outputs=outs, precision=precision)
        return tuple(self.layers)

    def view(self, made: str, use: Use) -> None:
        """Adds a view: another shape of the same memory; a pair before it moves over it."""
        if self.is_generated(use.tensor):
            self._views[made] = self.source(use.tensor), self._typed(use.tensor)
            if use.pair is not None:
                self._storage[made] = StoredType.of(use.pair)
            return
        storage = self.offered(use)
        if storage.scale is None or storage.scale == self.storage(use.tensor).scale:
            self._views[made] = self.source(use.tensor), self._typed(use.tensor)
        else:
            self._copies[made], self._storage[made] = self.read(use, storage), storage

    def leave(self, name: str) -> None:
        """Adds what a network output needs: a DQ after a pair or INT8 storage (R30); a NoOp that names a view."""
        node, pair = self.graph.producer(name), self.table.made(name)
        if node is None:
            return
        source = self.source(name)
        if source in self._writers:
            self._version(source, FLOATING, "" if source == name else name)
        elif pair is not None or self.storage(name).scale is not None:
            self.read(Use(Reader(node, LEAVES), name, pair), FLOATING)
        elif source != name:
            stored = self.stored(source, FLOATING)
            if source in self._halves and stored.precision == "FP16" and self.precision(name) == "FP32":
                self._convert(stored, self.stored(name, FLOATING))
                return
            out = replace(self.stored(name, FLOATING), precision=stored.precision)
            self.layers.append(Layer(label(node), "NoOp", (label(node),), (), (stored,), (out,), stored.precision))

    # Reading

    def taken(self, use: Use) -> Tensor:
        """The tensor as a generated kernel reads it: as it is stored, with Q and DQ inside the kernel.

        Measured on TensorRT-RTX 1.7.1: of another generated kernel it reads INT8 if all readers want that scale, or a
        library kernel does; otherwise it quantizes inside.
        """
        source = self.source(use.tensor)
        if source not in self._writers:
            return self.stored(source, self._storage.get(source, FLOATING))
        offered = self.offered(use)
        joined = members(self.graph.target.joined)
        others = [u.pair for u in values(self.graph, source) if u.reader.node.op not in joined]
        shared = any(pair is not None and pair.scale_key == offered.scale for pair in others)
        wanted = self.propagation.wanted.get(source) == offered.scale
        return self._version(source, offered if shared or wanted or use.pair is None else FLOATING)

    def read_float(self, use: Use, half: bool) -> Tensor:
        """The tensor in floating point; `half`: as FP16, so that an FP32 network input is converted (F12)."""
        found = self.read(use, FLOATING)
        if not half or found.precision != "FP32" or self.source(use.tensor) not in self.graph.inputs:
            return found
        made = replace(found, name=f"{found.name} as FP16", precision="FP16")
        step = (found.name, None, None, "FP16")
        if step not in self._converted:
            self._convert(found, made)
            self._converted[step] = made
        return made

    def read(self, use: Use, storage: StoredType, *, clone: bool = False) -> Tensor:
        """The tensor as a kernel reads it; adds a reformat if it is stored otherwise."""
        source = self.source(use.tensor)
        if source in self._writers:
            return self._version(source, storage)
        have = self._storage.get(source, FLOATING)
        if have.scale is None and storage.scale is None and use.pair is not None:
            if self.graph.target.pairs_inside:
                return self._both(use, source)
            # No kernel absorbs the pair: Q and DQ both run as reformats.
            there = StoredType.of(use.pair)
            self._as(use, source, have, there, clone=clone)
            have = there
        return (
            self.stored(source, have)
            if have.scale == storage.scale
            else self._as(use, source, have, storage, clone=clone)
        )

    def _both(self, use: Use, source: str) -> Tensor:
        """The result of a Q and its DQ in one kernel, floating point on both sides, for a library kernel (F7)."""
        assert use.pair is not None
        apart = use.tensor if use.reader.index == LEAVES else ""
        step = (source, None, use.pair.scale_key, apart or use.tensor)
        if step not in self._converted:
            stored = self.stored(source, FLOATING)
            out = replace(self.stored(apart or source, FLOATING), name=apart or use.tensor)
            out = out if apart else replace(out, precision=self._float(source, inside=True))
            quantizers = tuple(label(n) for n in use.pair.nodes if n is use.pair.quantize or key(n) == use.tensor)
            self._copy(quantizers, stored, out, reason("F7"))
            self._converted[step] = out
        return self._converted[step]

    def _as(self, use: Use, source: str, have: StoredType, storage: StoredType, *, clone: bool) -> Tensor:
        """The result of a reformat, added once for all readers that want the same type."""
        apart = use.tensor if use.reader.index == LEAVES and storage.scale is None else ""
        step = (source, have.scale, storage.scale, apart)
        if step not in self._converted:
            stored = self._converted.get((source, None, have.scale, "")) or self.stored(source, have)
            quantizers, made = self._names(
                storage.pair if storage.scale is not None else use.pair or have.pair, use, storage
            )
            if have.pair is not None and storage.scale is not None:
                quantizers = (*map(label, have.pair.dequantizes[:1]), *quantizers)
            made = made or f"{source} as {storage.precision or 'floating point'}"
            made = f"{made}_clone" if clone and storage.pair is not use.pair else made
            out = replace(self.stored(apart or source, storage), name=apart or made)
            if storage.scale is None and not apart:  # a dequantized network input is inside the network
                out = replace(out, precision=self._float(source, inside=True))
            self._copy(quantizers, stored, out, reason(*self._left_over(use, source, have, storage)))
            self._converted[step] = out
        return self._converted[step]

    def _names(self, pair: Pair | None, use: Use, storage: StoredType) -> tuple[tuple[str, ...], str]:
        """The label of a Q, or of a DQ for a conversion to floating point, as a tuple; and the tensor that it
        produces."""
        node: gs.Node | None = None
        if pair is not None and storage.scale is not None:
            node = pair.quantize
        elif pair is not None and pair.dequantizes:
            node, own = pair.dequantizes[0], self.graph.producer(use.tensor)  # one Q may have thousands of DQs
            if own is not None and key(own) == use.tensor and pairs(self.graph).made(use.tensor) is pair:
                node = own
        return ((label(node),), key(node)) if node is not None else ((), "")

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
        dims = (-1,) if shape is None else tuple([(-1 if i else 1) if d is None else d for i, d in enumerate(shape)])
        return Tensor(name, dims, storage.precision or self.precision(name))

    def precision(self, name: str) -> str:
        """The type of a tensor that is not stored as INT8: the file's, but FP16 for FP32 inside a weakly typed net."""
        return self._float(name, inside=name not in self.graph.inputs and name not in self.graph.outputs)

    def _float(self, name: str, *, inside: bool) -> str:
        kind = type_name(self.graph.dtype(name) or onnx.TensorProto.FLOAT)
        if kind not in FLOATS:
            return kind
        return "FP16" if inside and not self.graph.target.strong and kind == "FLOAT" else FLOATS[kind]
