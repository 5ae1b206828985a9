"""`mapped`: large models reach ONNX Runtime as files, whose weights it maps, instead of bytes, which it copies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from .external import external_files, external_tensors
from .inline.references import reference
from .inline.whole import is_light
from .protos import copy_fields
from .unread import named
from .writing.folders import temporary_folder

LARGE = 1 << 16
"""Bytes from which on a tensor goes to the file."""
HEAVY = 1 << 26
"""Bytes of weights in the model from which on it is written."""
PAGE = 4096
"""Offsets are multiples of this, or ONNX Runtime would copy the weights:
https://github.com/onnx/onnx/blob/main/docs/ExternalData.md"""


TOLD = 5e8
"""Bytes of weights from which on a user is told what ONNX Runtime takes."""


def memory_note(model: onnx.ModelProto) -> str:
    """Returns what ONNX Runtime takes for the weights of a model, as a clause; "" if that is little."""
    sizes = ((t, helper.tensor_dtype_to_np_dtype(t.data_type).itemsize) for t in model.graph.initializer)
    size = sum(math.prod(tensor.dims) * each for tensor, each in sizes if tensor.data_type != TensorProto.STRING)
    return f", which takes up to {size / 1e9:.1f} GB for the weights" if size >= TOLD else ""


@contextmanager
def mapped(model: onnx.ModelProto, folder: Path) -> Iterator[tuple[bytes, Path]]:
    """Yields the bytes of a model and the folder of its external data; if the model has none and large weights, or
    references to weights in its file, these are in a temporary folder until the end of the context. What has mapped
    them then keeps them.

    Args:
        model: the model; it is not modified.
        folder: the folder of its external data.

    Raises:
        ModelError: external data are missing, too short, or outside the folder.
    """
    external_files(model, folder)
    model = named(model)
    small = model.ByteSize() < HEAVY and not is_light(model)
    if small or next(external_tensors(model), None) is not None:
        yield model.SerializeToString(), folder
        return
    with temporary_folder() as place:
        yield _stored(model, place / "weights").SerializeToString(), place


def _stored(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """Returns a copy of a model whose large initializers are in a file; they are never copied in memory together."""
    new = onnx.ModelProto()
    copy_fields(model, new, besides="graph")
    copy_fields(model.graph, new.graph, besides="initializer")
    with file.open("wb") as data:
        for tensor in model.graph.initializer:
            light = reference(tensor)
            if light is None and len(tensor.raw_data) < LARGE:
                new.graph.initializer.append(tensor)
                continue
            data.write(bytes(-data.tell() % PAGE))
            own = new.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            own.data_location = TensorProto.EXTERNAL
            begun = data.tell()
            for block in (tensor.raw_data,) if light is None else light.blocks():
                data.write(block)
            place = {"location": file.name, "offset": begun, "length": data.tell() - begun}
            for key, value in place.items():
                own.external_data.add(key=key, value=str(value))
    return new
