"""Writes quantizers as QuantizeLinear and DequantizeLinear, with either of torch's two ONNX exporters.

The pairs are written here and not by torch's fake-quantize operators, so that the file contains what TensorRT supports
best: a scale of the tensor's own type (no Cast around the pair in half precision), an INT8 zero-point without a Cast,
and `axis` on every pair with a vector of scales. Nor can the dynamo exporter trace `amax.item()`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

INTEGER_TYPES = {(8, False): torch.int8, (8, True): torch.uint8}
"""The integer types that an export can write, by number of bits and whether they are unsigned."""
TYPED_OPSET = 19
"""The first opset whose QuantizeLinear supports half precision.
Source: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html"""

NUMBER = "qdqgraph_pair"
"""The attribute of a QuantizeLinear with the number of its pair; the export removes it."""


@dataclass(frozen=True)
class Encoding:
    """The parameters of a pair.

    Attributes:
        scale: ONNX's scale, amax / 127, float64: [] per tensor, [C] per channel. An array, not a tensor: every tracer
            treats it as a constant.
        axis: the channel axis; None for a per-tensor scale.
        integers: the integer type.
    """

    scale: NDArray[np.float64]
    axis: int | None
    integers: torch.dtype = torch.int8


@dataclass
class PairWriter:
    """The pairs of an export in progress: a tensor that is quantized twice with equal parameters gets one pair.

    Attributes:
        opset: the opset of the export.
        dynamo: whether torch.export traces it.
        paths: of the quantizer whose pairs it writes; without them pairs get no number.
        paths_by_pair: the paths of all quantizers of each pair, by the pair's number.
    """

    opset: int
    dynamo: bool
    paths: tuple[str, ...] = ()
    paths_by_pair: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _pairs: dict[tuple[int, int, bytes, int | None], tuple[Tensor, Tensor]] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _outputs: set[int] = field(default_factory=set)
    _constants_by_value: dict[Hashable, Tensor] = field(default_factory=dict)

    def named(self, paths: tuple[str, ...]) -> PairWriter:
        """The writer of the same export for the quantizer at these paths."""
        return replace(self, paths=paths)

    def forget(self) -> None:
        """Forgets the pairs of a run before the export, whose tensors the exporter does not know."""
        for kept in (self._pairs, self._numbers, self._outputs, self.paths_by_pair):
            kept.clear()

    def pair(self, x: Tensor, encoding: Encoding) -> Tensor:
        """The tensor after its pair, of the same shape and type."""
        at = (id(x), _version(x), encoding.scale.tobytes(), encoding.axis)
        if at not in self._pairs or _version(self._pairs[at][1]):  # an output that was changed in place is not reused
            scale, zero = self._constants(x, encoding)
            write = self._write_for_dynamo if self.dynamo else _write_for_tracer
            number = len(self.paths_by_pair) if self.paths else None
            output = write(x, scale, zero, encoding.axis, number)
            self._pairs[at] = (x, output)  # both stay alive: other tensors must not get their ids
            self._outputs.add(id(output))
            if number is not None:
                self._numbers[id(output)], self.paths_by_pair[number] = number, ()
        output = self._pairs[at][1]
        if (number := self._numbers.get(id(output))) is not None:
            self.paths_by_pair[number] = tuple(dict.fromkeys((*self.paths_by_pair[number], *self.paths)))
        return output

    def is_output(self, x: Tensor) -> bool:
        """Whether the tensor is the output of a pair, not changed in place since."""
        return id(x) in self._outputs and not _version(x)

    def _constants(self, x: Tensor, encoding: Encoding) -> tuple[Tensor, Tensor]:
        """Scale, of the tensor's type, and zero-point, of the integer type. A scale below the type's smallest positive
        value becomes that value."""
        limits = torch.finfo(x.dtype)
        scale = np.maximum(encoding.scale, limits.smallest_normal * limits.eps)
        if self.dynamo:
            found = torch.tensor(scale.tolist(), dtype=x.dtype, device=x.device)
            return found, torch.zeros(scale.shape, dtype=encoding.integers, device=x.device)
        # An array of NumPy is one constant to the tracer, anything else half a dozen nodes, and the exporter's passes
        # are slower than linear. Equal constants are written once.
        scale = np.asarray(scale, np.float32 if x.dtype == torch.float32 else np.float64)
        zero = np.zeros(scale.shape, np.int8)
        return self._constant(scale, x.dtype, x.device), self._constant(zero, encoding.integers, x.device)

    def _constant(self, values: NDArray[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
        at = (values.tobytes(), values.shape, dtype, device)
        if at not in self._constants_by_value:
            tensor = torch.from_numpy(values)
            same = (tensor.dtype, tensor.device) == (dtype, device)
            self._constants_by_value[at] = tensor if same else tensor.to(device, dtype)
        return self._constants_by_value[at]

    def _write_for_dynamo(self, x: Tensor, scale: Tensor, zero: Tensor, axis: int | None, number: int | None) -> Tensor:
        attrs: dict[str, Any] = {} if axis is None else {"axis": axis}
        first = attrs if number is None else {**attrs, NUMBER: number}
        write = torch.onnx.ops.symbolic
        integers = write("QuantizeLinear", (x, scale, zero), first, dtype=zero.dtype, shape=x.shape, version=self.opset)
        output: Tensor = write(
            "DequantizeLinear", (integers, scale, zero), attrs, dtype=x.dtype, shape=x.shape, version=self.opset
        )
        return output


def _version(x: Tensor) -> int:
    """How often a tensor was changed in place; 0 in inference mode, which does not count (no weight changes)."""
    return 0 if x.is_inference() else x._version


def _write_for_tracer(x: Tensor, scale: Tensor, zero: Tensor, axis: int | None, number: int | None) -> Tensor:
    function: Any = _Pair  # torch leaves `apply` untyped
    output: Tensor = function.apply(x, scale, zero, axis, number)
    return output


class _Pair(torch.autograd.Function):
    """The pair for the TorchScript exporter, which calls `symbolic`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, axis: int | None, number: int | None) -> Tensor:
        """The function that the tracer runs: only the shape matters."""
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero: Any, axis: int | None, number: int | None) -> Any:
        """The two nodes."""
        attrs = {} if axis is None else {"axis_i": axis}
        first = attrs if number is None else {**attrs, f"{NUMBER}_i": number}
        integers = g.op("QuantizeLinear", x, scale, zero, **first)
        return g.op("DequantizeLinear", integers, scale, zero, **attrs).setType(x.type())


@contextmanager
def preserve_attributes(quantizers: Any, *names: str) -> Iterator[None]:
    """Restores these attributes of the quantizers when the block ends."""
    kept = [(q, name, getattr(q, name)) for q in quantizers for name in names]
    try:
        yield
    finally:
        for quantizer, name, value in kept:
            setattr(quantizer, name, value)
