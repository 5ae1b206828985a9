"""Reads model files with clear errors; `model.writing` writes them."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ..errors import ModelError, reason
from ..traces import TRACES
from . import kinds
from .external import LIMIT
from .inline.whole import blocks, size
from .recognized import mistaken
from .skeleton import skeleton

WANTED = "an ONNX file"
NOTHING = Path(os.devnull)
"""A device that messages call an empty file."""


def read_model(path: Path) -> onnx.ModelProto:
    """Reads a model; external data stay in their files, and within `inline.references.referencing` also the weights
    inside a large file.

    Raises:
        ModelError: the file is missing, unreadable, or not an ONNX model; the message says what it is instead.
    """
    model = onnx.ModelProto()
    TRACES.reads(path)
    try:
        if path.is_block_device() or (path.is_char_device() and path != NOTHING):
            raise ModelError(f"{path}: this is a device, not {WANTED}")
        if (size := path.stat().st_size) > LIMIT:
            raise ModelError(
                f"{path}: the file has {size / 1e9:.2f} GB, and protobuf reads at most 2 GiB: export the model again "
                "with external data (onnx.save_model with save_as_external_data=True)"
            )
        if (light := skeleton(path)) is not None:
            model = light
        else:
            model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path}: {_other(path) or f'not an ONNX model, or truncated ({error})'}") from error
    except OSError as error:
        raise ModelError(f"{path}: {_other(path) or f'cannot be read: {reason(error)}'}") from error
    except MemoryError as error:
        raise ModelError(f"{path}: {_other(path) or 'does not fit into memory'}") from error
    if not model.opset_import or not model.HasField("graph"):
        fault = "not an ONNX model: it has no graph or no opset import"
        raise ModelError(f"{path}: {_other(path) or fault}")
    return model


def _other(path: Path) -> str:
    """The sentence for a file that is something else than an ONNX model."""
    return mistaken(path, WANTED, accepts=(kinds.ONNX,))


def is_canonical(path: Path, model: onnx.ModelProto) -> bool:
    """Returns whether the file equals protobuf's deterministic serialization of the model.

    Only then does an undo restore the file byte for byte.
    """
    if path.stat().st_size != size(model):
        return False
    with path.open("rb") as file:
        return all(file.read(len(block)) == block for block in blocks(model))
