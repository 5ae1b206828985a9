"""Shapes that a user gives for inputs with dynamic dimensions, as `NAME:1x3x224x224`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import ModelError, guess

if TYPE_CHECKING:
    import onnx

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of an input, by its name."""
NO_SHAPES: Shapes = MappingProxyType({})
FORM = "use the format NAME:1x3x224x224"


def parsed(text: str) -> tuple[str, tuple[int, ...]]:
    """The input and its shape of a text such as "x:1x3x224x224", trtexec's format; a name may contain colons.

    Raises:
        ModelError: the text has another form.
    """
    name, _, dims = text.rpartition(":")
    sizes = dims.split("x")
    if not name or not all(size.isascii() and size.isdecimal() for size in sizes):
        raise ModelError(f"--shape {text}: {FORM}")
    return name, tuple(map(int, sizes))


def fitted(model: onnx.ModelProto, shapes: Shapes) -> Shapes:
    """The shapes, if they fit the inputs of a model: equal where these are fixed, in their rank and in each dimension.

    Raises:
        ModelError: the model has no such input, or the shape contradicts its own.
    """
    inputs = {info.name: info.type.tensor_type for info in model.graph.input}
    for name, shape in shapes.items():
        if name not in inputs:
            raise ModelError(f"--shape {name}: the model has no such input{guess(name, list(inputs))}")
        known = inputs[name].shape.dim if inputs[name].HasField("shape") else None
        fixed = None if known is None else [d.dim_value if d.HasField("dim_value") else None for d in known]
        if fixed is not None and (
            len(fixed) != len(shape) or any(d is not None and d != n for d, n in zip(fixed, shape, strict=True))
        ):
            own = "x".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in known or ())
            given = "x".join(map(str, shape))
            raise ModelError(f"--shape {name}:{given}: the input has the shape {own or 'of a scalar'}")
    return shapes
