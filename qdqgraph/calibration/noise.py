"""Seeded noise for the inputs of a model: values that what reads an input can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from ..errors import ModelError
from ..graph.amax import INT8_BOUND, amax_from_scale
from ..graph.graph import LARGEST, Graph, key
from ..graph.moves import move_at
from ..graph.pair import pairs
from ..model.runtime import Feed
from ..operators import HOMOGENEOUS, SATURATES
from .inputs import model_inputs, numpy_type
from .sizes import Sizes, dimensions, shape_of, sized
from .uses import Kind, Use, uses

ORDER: Sequence[Kind] = ("index", "argument", "length", "mask", "position", "divisor", "integers", "numbers")
"""What decides the values of an integer input that is read in several ways, first to last."""


def noise(
    model: onnx.ModelProto, samples: int = 1, seed: int = 0, *, sizes: Sizes | None = None, plain: bool = False
) -> list[Feed]:
    """Seeded noise for every input.

    Floats are uniform over the range of the input's pair, or of the pairs after data movement and clipping, else
    [-1, 1]. Integers and booleans are what their consumers read (`uses`): indices within the table, zeros for a table
    of two rows (the segments of a single sequence), masks that keep everything, full lengths, positions 0, 1, …, shapes
    and axes that run, divisors 1, the full range of 8-bit integers; else 0 or 1. A float input is one of these only
    where the graph leaves no doubt.

    Args:
        model: the model.
        samples: the number of samples.
        seed: the seed.
        sizes: the size of each dynamic dimension (`sizes.dimensions`). By default 1 for the first, 224 for those of
            images (4-D; 3 channels if nothing else is known), else 16; a dimension that a weight fixes has its size.
        plain: all integers are 0 or 1, whatever reads them.

    Raises:
        ModelError: an input is not a numeric tensor, or larger than any memory.
    """
    random = np.random.default_rng(seed)
    if sizes is None:
        sizes = {d.name: d.size for d in dimensions(Graph(model))}
    graph = Graph(sized(model, sizes))
    inputs = model_inputs(model)
    found = {i.name: () if plain else uses(graph, i.name) for i in inputs}
    return [
        {i.name: _sample(graph, i, shape_of(i, sizes), found[i.name], random) for i in inputs} for _ in range(samples)
    ]


def _sample(
    graph: Graph, info: onnx.ValueInfoProto, shape: list[int], found: Sequence[Use], random: np.random.Generator
) -> np.ndarray:
    dtype = numpy_type(info)
    if math.prod(shape) > LARGEST:  # numpy raises a ValueError, and below this a MemoryError
        raise ModelError(f"input {info.name!r} has the shape {shape}, for which no memory is enough")
    used = sorted((u for u in found if dtype.kind != "f" or _sure(u)), key=lambda u: ORDER.index(u.kind))
    values = _values(used, shape, dtype, random) if used else None
    if values is not None:
        return values.astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return random.integers(0, 2, shape).astype(dtype)
    with np.errstate(over="ignore"):  # where a scale is larger than the type allows
        return (random.uniform(-1, 1, shape) * _amax(graph, info.name)).astype(dtype)


def _amax(graph: Graph, name: str) -> float:
    """Returns the largest magnitude that the symmetric pairs of an input represent, or those after data movement and
    clipping; 1 without one. So a repair that clips before a pair, as of UINT8 to INT8 (QDQ402), leaves the noise as it
    is."""
    pending, seen = [name], {name}
    for tensor in pending:
        if found := pairs(graph).at(tensor):
            return max(amax_from_scale(p.value, 255 if p.types[1] == "uint8" else INT8_BOUND) for p in found)
        for reader in graph.readers(tensor):
            moved = move_at(graph, reader)
            clipped = reader.index == 0 and reader.node.op in HOMOGENEOUS | SATURATES
            after = moved[1] if moved is not None else [key(reader.node)] if clipped else []
            pending += [each for each in after if each not in seen]
            seen.update(after)
    return 1.0


def _sure(use: Use) -> bool:
    """Returns whether a float input must be this: a shape, indices, or a mask whose other value removes."""
    return (use.kind == "argument" and bool(use.values)) or use.kind in ("index", "length", "divisor") or use.sure


def _values(
    used: Sequence[Use], shape: list[int], dtype: np.dtype[Any], random: np.random.Generator
) -> np.ndarray | None:
    """Returns values for the first of the uses; None if any integers will do."""
    first = used[0]
    if first.kind == "index":
        own = [u for u in used if u.kind == "index"]
        low, high = max(0, *(u.low for u in own)), min(u.high for u in own)
        small = high - low < 2
        return np.full(shape, min(low, max(high, 0))) if small else random.integers(int(low), int(high) + 1, shape)
    if first.kind == "argument":
        fits = len(first.values) == math.prod(shape)
        return np.reshape(first.values, shape) if fits else None
    if first.kind == "length":
        return np.full(shape, first.high)
    if first.kind == "mask":
        sure = next((u for u in used if u.kind == "mask" and u.sure), first)
        return np.full(shape, sure.low)
    if first.kind == "divisor":
        return np.ones(shape)
    if first.kind == "position":
        last = shape[-1] if shape else 1
        return np.broadcast_to(np.arange(last) if last > 1 else np.ones(1), shape)
    if dtype in (np.int8, np.uint8):
        least = -128 if dtype == np.int8 else 0
        return random.integers(least, least + 256, shape)
    return None
