"""External data: the tensors of a model that are stored in files beside it, and these files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
from onnx import TensorProto

from ..errors import ModelError, reason
from . import kinds
from .inline.references import reference
from .protos import NUMBERS
from .recognized import kind_of, mistaken

LIMIT = (1 << 31) - 1
"""The most bytes that protobuf serializes."""
LONG = 200
"""Characters of a path from which on messages shorten it."""
WIDEST = 16
"""The bytes of the widest element, a complex number of two doubles."""


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yields every tensor with external data: initializers and attributes, also in subgraphs and local functions.
    References to bytes inside the model file (`inline`) are none."""
    yield from (tensor for tensor in tensors(model) if _is_external(tensor) and reference(tensor) is None)


def tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Returns every tensor of a model: initializers and attributes, also in subgraphs and local functions."""
    graphs = [model.graph]
    graphs += [graph for info in model.training_info for graph in (info.initialization, info.algorithm)]
    found: list[onnx.TensorProto] = []
    for graph in graphs:
        _of_graph(graph, found)
    for function in model.functions:
        _of_attributes(function.attribute_proto, found)
        for node in function.node:
            _of_attributes(node.attribute, found)
    return found


def refuse_beyond_protobuf(model: onnx.ModelProto, limit: int = LIMIT) -> None:
    """Rejects a model whose tensors in memory are more than protobuf serializes.

    Args:
        model: the model; tensors with external data count as nothing.
        limit: in bytes; protobuf serializes at most 2 GiB (https://protobuf.dev/programming-guides/proto-limits).

    Raises:
        ModelError: with what to do.
    """
    own = [tensor for tensor in tensors(model) if not _is_external(tensor)]
    if WIDEST * sum(math.prod(tensor.dims) for tensor in own) <= limit:  # most models: no need to measure them
        return
    size = sum(tensor.ByteSize() for tensor in own)
    if size > limit:
        save = "onnx.save_model(model, 'model.onnx', save_as_external_data=True)"
        raise ModelError(
            f"the model in memory has {size / 1e9:.2f} GB of tensors, and protobuf serializes at most 2 GiB: save it "
            f"with {save}, and give the path"
        )


def _of_graph(graph: onnx.GraphProto, found: list[onnx.TensorProto]) -> None:
    """Adds the tensors of a graph."""
    found += graph.initializer
    for sparse in graph.sparse_initializer:
        found += (sparse.values, sparse.indices)
    for node in graph.node:
        if attributes := node.attribute[:]:  # most nodes have none
            _of_attributes(attributes, found)


def _of_attributes(attributes: Iterable[onnx.AttributeProto], found: list[onnx.TensorProto]) -> None:
    """Adds the tensors of attributes."""
    for attribute in attributes:
        kind = attribute.type
        if kind in NUMBERS:
            continue
        if kind == onnx.AttributeProto.TENSOR:
            found.append(attribute.t)
            continue
        if attribute.HasField("t"):
            found.append(attribute.t)
        found += attribute.tensors
        if attribute.HasField("sparse_tensor"):
            found += (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        for sparse in attribute.sparse_tensors:
            found += (sparse.values, sparse.indices)
        if attribute.HasField("g"):
            _of_graph(attribute.g, found)
        for graph in attribute.graphs:
            _of_graph(graph, found)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def location(tensor: onnx.TensorProto) -> str:
    """Returns the file of a tensor's external data, relative to the folder of the model; "" if there is none."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def locations(model: onnx.ModelProto) -> tuple[str, ...]:
    """Returns the distinct locations of a model's external data, in order."""
    return tuple(dict.fromkeys(map(location, external_tensors(model))))


def relocated(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Returns a copy of a model with other locations of its external data; the model itself if none changes."""
    if not names:
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    for tensor in external_tensors(new):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = names.get(entry.value, entry.value)
    return new


def external_files(model: onnx.ModelProto, folder: Path, stored: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Returns the path of each external data file, by its location as written in the model.

    Args:
        model: the model.
        folder: the folder that contains the external data.
        stored: the names of files in `folder` that differ from the locations in the model, by location.

    Raises:
        ModelError: a location is outside the model's folder, also through a symbolic link; its file is missing or too
            short; or offset or length of a tensor are not integers of 0 or more.
    """
    found: dict[str, Path] = {}
    for tensor in external_tensors(model):
        place = location(tensor)
        path = folder / (stored or {}).get(place, place)
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise ModelError(f"external data of {tensor.name!r} are outside the model's folder: {_short(Path(place))}")
        if fault := _no_file(path):
            raise ModelError(f"external data file {_short(path)} of {tensor.name!r} {fault}")
        if path.is_symlink() or len(Path(place).parts) > 1:
            real = path.resolve()
            if not real.is_relative_to(folder.resolve()):
                link = f"{place} leads to {real}; copy the file into the folder"
                raise ModelError(f"external data of {tensor.name!r} are outside the model's folder: {link}")
        if _number(tensor, "offset") + _number(tensor, "length") > path.stat().st_size:
            pointer = mistaken(path, "the external data") if kind_of(path) in (kinds.LFS, kinds.ANNEX) else ""
            fault = f": {pointer}" if pointer else f" is too short for {tensor.name!r}; it may be truncated"
            raise ModelError(f"external data file {path}{fault}")
        found[place] = path
    return found


def _no_file(path: Path) -> str:
    """Returns why a path is no file that can be read; "" if it is one."""
    try:
        if path.is_file():
            return ""
        if path.exists():
            return "is a folder, a device or a pipe, not a file"
    except OSError as error:  # such as a name of more than 255 bytes
        return f"cannot be read: {reason(error)}"
    return "is missing; copy or download it too, under this name, beside the model"


def _short(path: Path) -> str:
    """Returns a path for a message: the middle of a very long one is left out."""
    text = str(path)
    return text if len(text) <= LONG else f"{text[: LONG // 2]}…{text[-LONG // 2 :]}"


def refuse_entries(tensor: onnx.TensorProto) -> None:
    """Rejects a tensor with external data whose entries do not say where the data are; reads no file.

    Raises:
        ModelError: there is no location, or offset or length are not integers of 0 or more, or an entry is there twice.
    """
    names = [entry.key for entry in tensor.external_data]
    if len(names) > len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"external data of {tensor.name!r} have the entry {twice!r} twice: the file is damaged")
    if not location(tensor):
        raise ModelError(f"external data of {tensor.name!r} have no location: the file is damaged")
    for name in ("offset", "length"):
        _number(tensor, name)


def _number(tensor: onnx.TensorProto, name: str) -> int:
    text = next((entry.value for entry in tensor.external_data if entry.key == name), "") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ModelError(f"external data of {tensor.name!r}: {name} {text[:40]!r} is not an integer of 0 or more")
    return int(text)


def renamed(before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, str]:
    """Returns the locations of `before` that tensors of `after` have under another name, by that name.

    Tensors are matched by name, offset and length; a model with one file of external data needs no match.
    """
    old: dict[tuple[str, ...], str] = {}
    for tensor in external_tensors(before):
        name = _identity(tensor)
        old[name] = location(tensor) if old.get(name, location(tensor)) == location(tensor) else ""
    known = set(old.values()) - {""}
    found: dict[str, str] = {}
    for tensor in external_tensors(after):
        place = location(tensor)
        if place not in known and (was := old.get(_identity(tensor))):
            found.setdefault(place, was)
    missing = set(locations(after)) - known - set(found)
    if len(missing) == len(known) == 1:
        found[missing.pop()] = known.pop()
    return found


def _identity(tensor: onnx.TensorProto) -> tuple[str, ...]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return tensor.name, entries.get("offset", ""), entries.get("length", "")
