"""Constants that a correction replaced, such as biases: the model contains the new values, its metadata the originals.

A repair on data starts from the originals, so a second run corrects nothing twice, and the float network of a corrected
model is that of the original. An entry names a constant by the digest of its values, so it is found again under another
node or tensor name, and in FP16. An entry whose constant is gone, because another program changed it, has no effect.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import ModelError, counted
from .constants import array_of, constant_value
from .protos import fresh, key, names, reads, refill

ORIGINAL = "qdqgraph.original."
"""Prefix of the metadata_props keys; the digest of the corrected values follows."""
Place = tuple[str, int]
"""A node input: the name of the node's first output, and the index."""


def corrected(model: onnx.ModelProto, values: Mapping[Place, np.ndarray], folder: Path) -> onnx.ModelProto:
    """A copy of a model in which node inputs read other constants; its metadata keep the original values.

    A constant that a node input shares with others stays for these. An input that is absent is added.

    Args:
        model: the model, which is not modified.
        values: the new values, in the type of the old ones, which a stored constant has.
        folder: where external data lie.
    """
    editing = _Editing(model, folder)
    kept = dict(_entries(model))
    for place, array in values.items():
        old = editing.array(place)
        before = None if old is None else kept.pop(_digest(old), None)
        editing.set(place, array)
        kept[_digest(array)] = _Entry(_half(array), old) if before is None else before
    return editing.finish(kept)


def replaced(model: onnx.ModelProto, values: Mapping[Place, np.ndarray], folder: Path) -> onnx.ModelProto:
    """The same as `corrected` without an entry in the metadata: what the constants were is not kept.

    Args:
        model, values, folder: as `corrected`.
    """
    editing = _Editing(model, folder)
    for place, array in values.items():
        editing.set(place, array)
    return editing.model


def stored(model: onnx.ModelProto, place: Place, folder: Path) -> np.ndarray | None:
    """The stored constant that a node input reads, an initializer or a Constant node; None if there is none, or it
    cannot be read.

    Args:
        model: the model.
        place: the node input.
        folder: where external data lie.
    """
    return _Editing(model, folder, copy=False).array(place)


def uncorrected(
    model: onnx.ModelProto, folder: Path, wanted: Callable[[Place], bool] = lambda place: True
) -> onnx.ModelProto:
    """A copy of a model with the original constants; the model itself if it has none that are corrected.

    Args:
        model: the model, which is not modified.
        folder: where external data lie.
        wanted: whether to restore a node input.

    Raises:
        ModelError: an entry of the metadata is not one that `corrected` writes.
    """
    entries = dict(_entries(model))
    found = [(place, digest) for place, digest in _places(model, folder, entries) if wanted(place)]
    if not found:
        return model
    editing = _Editing(model, folder)
    for place, digest in found:
        editing.restore(place, entries[digest].original)
    gone = {digest for _, digest in found} - {digest for _, digest in _places(editing.model, folder, entries)}
    return editing.finish({digest: entry for digest, entry in entries.items() if digest not in gone})


def originals(model: onnx.ModelProto, folder: Path) -> dict[Place, np.ndarray]:
    """The original of each corrected constant that a node input reads, in the type of the present one; zeros if there
    was none.

    Raises:
        ModelError: as `uncorrected`.
    """
    entries, editing = dict(_entries(model)), _Editing(model, folder, copy=False)
    found: dict[Place, np.ndarray] = {}
    for place, digest in _places(model, folder, entries):
        present, original = editing.array(place), entries[digest].original
        assert present is not None
        with np.errstate(over="ignore"):
            found[place] = np.zeros_like(present) if original is None else original.astype(present.dtype)
    return found


def unmatched(model: onnx.ModelProto, folder: Path) -> str:
    """A sentence if the metadata keep originals of constants that the model does not have; "" otherwise.

    Raises:
        ModelError: as `uncorrected`.
    """
    entries = dict(_entries(model))
    lost = len(entries) - len({digest for _, digest in _places(model, folder, entries)})
    if not lost:
        return ""
    what = f"the metadata keep the originals of {counted(lost, 'corrected constant')} that the model does not contain"
    return f"{what}: another program changed them, so they count as they are"


@dataclass(frozen=True, eq=False)
class _Entry:
    """The corrected values in FP16 as a digest, and the original constant; None if there was none."""

    half: str
    original: np.ndarray | None

    @property
    def text(self) -> str:
        if self.original is None:
            return self.half
        data = numpy_helper.from_array(self.original).SerializeToString(deterministic=True)
        return f"{self.half} {base64.b64encode(data).decode()}"

    @classmethod
    def of(cls, name: str, text: str) -> _Entry:
        half, _, data = text.partition(" ")
        try:
            tensor = TensorProto.FromString(base64.b64decode(data, validate=True))
            return cls(half, numpy_helper.to_array(tensor) if data else None)
        except Exception as error:  # protobuf and onnx raise errors of many kinds
            raise ModelError(f"metadata {name!r} is damaged: remove the entry") from error


def _entries(model: onnx.ModelProto) -> Iterator[tuple[str, _Entry]]:
    for entry in model.metadata_props:
        if entry.key.startswith(ORIGINAL):
            yield entry.key.removeprefix(ORIGINAL), _Entry.of(entry.key, entry.value)


def _places(model: onnx.ModelProto, folder: Path, entries: Mapping[str, _Entry]) -> Iterator[tuple[Place, str]]:
    """Node inputs that read a corrected constant, with the digest of its entry."""
    if not entries:
        return
    digests = {digest: digest for digest in entries} | {entry.half: digest for digest, entry in entries.items()}
    editing, known = _Editing(model, folder, copy=False), dict[str, str | None]()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name not in known:
                array = editing.array((key(node), index))
                known[name] = None if array is None else digests.get(_digest(array))
            if (digest := known[name]) is not None:
                yield (key(node), index), digest


def _digest(array: np.ndarray) -> str:
    """Of type, shape and values; 20 hexadecimal digits."""
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()[:20]


def _half(array: np.ndarray) -> str:
    """The digest of the values as FP16 stores them; of integers as they are."""
    with np.errstate(over="ignore"):
        return _digest(array.astype(np.float16) if array.dtype.kind == "f" else array)


class _Editing:
    """A copy of a model in which node inputs get other constants."""

    def __init__(self, model: onnx.ModelProto, folder: Path, *, copy: bool = True) -> None:
        self.folder = folder
        self.model = model
        if copy:
            self.model = onnx.ModelProto()
            self.model.CopyFrom(model)
        graph = self.model.graph
        self.nodes = {key(node): node for node in graph.node if key(node)}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.taken = set(names(graph)) if copy else set[str]()
        self.counts: dict[str, int] = {}
        given = (*(i.name for i in graph.input), *(o.name for o in graph.output))
        for name in (*given, *(name for node in graph.node for name in reads(node))):
            self.counts[name] = self.counts.get(name, 0) + 1

    def array(self, place: Place) -> np.ndarray | None:
        """The stored constant that a node input reads."""
        name = self._name(place)
        if name in self.initializers:
            return array_of(self.initializers[name], self.folder)
        node = self.nodes.get(name)
        return constant_value(node, self.folder) if node is not None and node.op_type == "Constant" else None

    def set(self, place: Place, array: np.ndarray) -> None:
        """Lets a node input read a constant: its own one with these values, or a new one."""
        name = self._name(place)
        if name and self.counts[name] == 1 and self._store(name, array):
            return
        new = fresh(name or f"{place[0]}_bias", self.taken)
        if self.model.ir_version < 4:  # an initializer would have to be a graph input
            value = numpy_helper.from_array(array)
            refill(
                self.model.graph.node,
                [helper.make_node("Constant", [], [new], value=value), *self.model.graph.node],
            )
            self.nodes = {key(node): node for node in self.model.graph.node if key(node)}
        else:
            self.model.graph.initializer.append(numpy_helper.from_array(array, new))
            self.initializers[new] = self.model.graph.initializer[-1]
        node = self.nodes[place[0]]
        node.input.extend([""] * (place[1] + 1 - len(node.input)))
        self.counts[name] = self.counts.get(name, 0) - 1
        node.input[place[1]] = new
        self.counts[new] = 1

    def restore(self, place: Place, original: np.ndarray | None) -> None:
        """Lets a node input read the original values in the type of the present ones, or nothing if there were none."""
        present = self.array(place)
        assert present is not None
        if original is not None:
            with np.errstate(over="ignore"):
                self.set(place, original.astype(present.dtype))
            return
        node, name = self.nodes[place[0]], self._name(place)
        node.input[place[1]] = ""
        while node.input and not node.input[-1]:
            del node.input[-1]
        self.counts[name] -= 1
        if not self.counts[name]:
            graph = self.model.graph
            refill(graph.initializer, [t for t in graph.initializer if t.name != name])
            refill(graph.node, [n for n in graph.node if key(n) != name])
            self.initializers = {tensor.name: tensor for tensor in graph.initializer}
            self.nodes = {key(node): node for node in graph.node if key(node)}

    def finish(self, entries: Mapping[str, _Entry]) -> onnx.ModelProto:
        """The model, with these entries in its metadata."""
        kept = [entry for entry in self.model.metadata_props if not entry.key.startswith(ORIGINAL)]
        refill(self.model.metadata_props, kept)
        for digest, entry in entries.items():
            self.model.metadata_props.add(key=ORIGINAL + digest, value=entry.text)
        return self.model

    def _name(self, place: Place) -> str:
        node = self.nodes[place[0]]
        return node.input[place[1]] if place[1] < len(node.input) else ""

    def _store(self, name: str, array: np.ndarray) -> bool:
        """Gives an initializer or a Constant node other values."""
        tensor = self.initializers.get(name)
        if tensor is not None:
            tensor.CopyFrom(numpy_helper.from_array(array, name))
            return True
        node = self.nodes.get(name)
        if node is None or node.op_type != "Constant":
            return False
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(array)))
        return True
