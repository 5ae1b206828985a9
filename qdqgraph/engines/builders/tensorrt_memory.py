"""Inputs and outputs of a TensorRT engine in GPU memory.

They are allocated through ctypes with the CUDA runtime that comes with TensorRT, so no other package is needed.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


@dataclass(frozen=True)
class Buffer:
    """A tensor in GPU memory.

    Attributes:
        place: its address.
        dims: its shape.
        size: the number of bytes allocated, at least 1.
        reads: the engine reads it: it is an input.
    """

    place: ctypes.c_void_p
    dims: tuple[int, ...]
    size: int
    reads: bool


def library() -> Any:
    """Returns the CUDA runtime library; None if there is none."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


@contextmanager
def allocated(
    trt: Any, engine: Any, context: Any, cuda: Any, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Iterator[dict[str, Buffer]]:
    """Allocates all inputs and outputs, filled with zeros, for the execution context; yields them by name.

    Args:
        trt: the module tensorrt.
        engine: the engine.
        context: its execution context, which gets the shapes of dynamic inputs and all addresses.
        cuda: the result of `library`.
        shapes: the shape of each dynamic input, by name; by default the optimal one of the engine's first profile.

    Raises:
        MemoryError: the GPU cannot allocate a tensor; the message says which.
    """
    given, found = shapes or {}, dict[str, Buffer]()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
    try:
        for name in names:
            if name in inputs and -1 in tuple(engine.get_tensor_shape(name)):
                optimal = engine.get_tensor_profile_shape(name, 0)[1]
                context.set_input_shape(name, given.get(name, optimal))
        for name in names:
            dims = tuple(int(d) for d in context.get_tensor_shape(name))
            place = ctypes.c_void_p()
            size = max(1, int(math.prod(max(1, d) for d in dims) * engine.get_tensor_dtype(name).itemsize))
            if cuda.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(size)):
                raise MemoryError(f"the GPU cannot allocate {size:,} bytes for '{name}'")
            found[name] = Buffer(place, dims, size, name in inputs)
            cuda.cudaMemset(place, 0, ctypes.c_size_t(size))
            context.set_tensor_address(name, place.value)
        yield found
    finally:
        for buffer in found.values():
            cuda.cudaFree(buffer.place)
