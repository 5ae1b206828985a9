"""The bytes of a model with its references in their places, as protobuf's deterministic serialization of the whole."""

from __future__ import annotations

import hashlib
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx

from ...errors import ModelError
from .references import Reference, has_references, reference, store
from .wire import MODEL, TENSOR, Message, Serialized, Splice

LIMIT = (1 << 31) - 1
"""The most bytes that protobuf reads: https://protobuf.dev/programming-guides/proto-limits."""


def blocks(item: Any) -> Iterator[bytes]:
    """Yields protobuf's deterministic serialization of a model, or of a part of one, with its references.

    Raises:
        ModelError: it has more than 2 GiB, or a file was changed.
    """
    for piece in pieces(item):
        if isinstance(piece, Reference):
            yield from piece.blocks()
        else:
            yield piece


def digest(item: Any) -> bytes:
    """Returns the sha256 of what `blocks` yields; raises as it does."""
    found = hashlib.sha256()
    for block in blocks(item):
        found.update(block)
    return found.digest()


def size(item: Any) -> int:
    """Returns how many bytes `blocks` yields; raises as it does."""
    return sum(map(len, pieces(item)))


def is_light(item: Any) -> bool:
    """Returns whether a model, or a part of one, contains a reference."""
    return any(reference(tensor) is not None for tensor in _tensors(item))


def pieces(item: Any) -> Sequence[bytes | Reference]:
    """Returns what `blocks` yields, with references in place of their bytes; raises as it does."""
    if not is_light(item):
        return (item.SerializeToString(deterministic=True),)
    marked, token, found = marks(item)
    data = Serialized(marked.SerializeToString(deterministic=True))
    places: list[int] = []
    while (place := data.find(token, places[-1] + len(token) if places else 0)) >= 0:
        places.append(place)
    if len(places) != len(found):
        raise AssertionError("a random mark is in the model twice")

    def inside(start: int, stop: int) -> bool:
        index = bisect_left(places, start)
        return index < len(places) and places[index] < stop

    def replace(start: int, stop: int) -> Reference:
        return found[int.from_bytes(data[start + len(token) : stop], "little")]

    own = Splice(data, inside, replace).pieces(_kind(item))
    if (total := sum(map(len, own))) > LIMIT:
        raise ModelError(
            f"the result has {total / 1e9:.2f} GB, and protobuf serializes at most 2 GiB: save the model with "
            "onnx.save_model(model, 'model.onnx', save_as_external_data=True), and repair that"
        )
    return own


def marks(item: Any) -> tuple[Any, bytes, list[Reference]]:
    """Returns a copy of a model, or of a part of one, in which a mark takes the place of the bytes of a reference; the
    token with which the marks begin; and the references by the numbers that end them."""
    copy = type(item)()
    copy.CopyFrom(item)
    token, found = secrets.token_bytes(16), list[Reference]()
    for tensor in _tensors(copy):
        if (own := reference(tensor)) is not None:
            store(tensor, token + len(found).to_bytes(8, "little"), own.declared)
            found.append(own)
    return copy, token, found


def loaded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a model with the bytes of its references in memory; the model itself if it has none.

    Raises:
        ModelError: a file was changed.
    """
    if not has_references(model):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _tensors(copy):
        if (own := reference(tensor)) is not None:
            store(tensor, bytes(own.read()), own.declared)
    return copy


def resolved(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Returns a tensor with its own bytes; the tensor itself if it is no reference."""
    own = reference(tensor)
    if own is None:
        return tensor
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    store(copy, bytes(own.read()), own.declared)
    return copy


def _kind(item: Any) -> Message:
    return TENSOR if isinstance(item, onnx.TensorProto) else MODEL


def _tensors(item: Any) -> Iterable[onnx.TensorProto]:
    """The tensors that may be references."""
    if isinstance(item, onnx.TensorProto):
        return (item,)
    return item.graph.initializer if isinstance(item, onnx.ModelProto) else ()
