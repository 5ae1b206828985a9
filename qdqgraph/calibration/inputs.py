"""The inputs of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ..errors import ModelError


def model_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a model that are not initializers, in order."""
    constant = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constant]


def numpy_type(info: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The numpy type of an input.

    Raises:
        ModelError: it is not a numeric tensor.
    """
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    except KeyError as error:
        raise ModelError(f"input {info.name!r} is not a numeric tensor; give inputs with --data") from error
