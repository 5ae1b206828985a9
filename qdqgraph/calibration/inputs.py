"""The inputs of a model, and seeded noise for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ..errors import ModelError
from ..graph.amax import amax_from_scale
from ..graph.graph import Graph
from ..graph.pair import pairs
from ..model.runtime import Feed

UNKNOWN = 224
"""Replaces a dynamic spatial dimension of an image; divisible by 32, which detectors need."""


def noise(model: onnx.ModelProto, samples: int = 1, seed: int = 0) -> list[Feed]:
    """Seeded noise for every input: floats uniform over the range of the input's pair, else [-1, 1]; integers 0 or 1.

    Dynamic dimensions: 1 for the first, 224 for those of images (4-D; 3 channels if the first two are dynamic), else
    16.

    Raises:
        ModelError: an input is not a numeric tensor.
    """
    random = np.random.default_rng(seed)
    graph = Graph(model)
    return [{i.name: _sample(graph, i, random) for i in model_inputs(model)} for _ in range(samples)]


def model_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a model that are not initializers, in order."""
    constant = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constant]


def _dims(info: onnx.ValueInfoProto) -> list[int | None]:
    return [d.dim_value if d.dim_value > 0 else None for d in info.type.tensor_type.shape.dim]


def _numpy_type(info: onnx.ValueInfoProto) -> np.dtype[Any]:
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    except KeyError as error:
        raise ModelError(f"input {info.name!r} is not a numeric tensor; give inputs with --data") from error


def _sample(graph: Graph, info: onnx.ValueInfoProto, random: np.random.Generator) -> np.ndarray:
    dims, dtype = _dims(info), _numpy_type(info)
    shape = [d or (1 if i == 0 else UNKNOWN if len(dims) == 4 else 16) for i, d in enumerate(dims)]
    if len(dims) == 4 and dims[1] is None and dims[0] is None:
        shape[1] = 3
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return random.integers(0, 2, shape).astype(dtype)
    scales = [p.value for p in pairs(graph).at(info.name)]
    return (random.uniform(-1, 1, shape) * (amax_from_scale(max(scales)) if scales else 1)).astype(dtype)
