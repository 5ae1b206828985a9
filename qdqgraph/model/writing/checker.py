"""`fault_in` and `fault_of`: what onnx.checker says of a model file."""

from __future__ import annotations

from pathlib import Path

import onnx

from ...errors import GraphError, first_line
from ..external import external_tensors
from ..heap import trim
from ..inline.references import reference
from ..inline.whole import is_light, marks
from ..wellformed import FIELDS, refuse_tensor


def fault_in(path: Path) -> str:
    """Returns the first line of the onnx.checker error on a file; "" if it accepts the file."""
    return _fault(str(path))


def fault_of(model: onnx.ModelProto, path: Path) -> str:
    """Returns what `fault_in` returns for the file of a model.

    The checker reads a whole file into memory, twice. Of the data of a tensor it checks that there are enough
    (https://github.com/onnx/onnx/blob/main/onnx/checker.cc, check_tensor); for references that is checked here, and
    onnx.checker then checks the rest of the model. External data need the file.
    """
    if not is_light(model) or next(external_tensors(model), None) is not None:
        return fault_in(path)
    try:
        for tensor in model.graph.initializer:
            if reference(tensor) is not None:
                refuse_tensor(tensor, tensor.name)
                if tensor.data_type not in FIELDS:
                    return fault_in(path)
    except GraphError:
        return fault_in(path)
    small = marks(model)[0]
    for tensor, own in zip(small.graph.initializer, model.graph.initializer, strict=True):
        if reference(own) is not None:
            tensor.dims[:] = [1]
    return fault_in(path) if _fault(small) else ""


def _fault(model: onnx.ModelProto | str) -> str:
    trim()  # onnx makes its own copy of the model
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        return first_line(error)
    return ""
