"""How a quantizer becomes QuantizeLinear and DequantizeLinear, with either of torch's two ONNX exporters.

Written here rather than through torch's fake-quantize operators, so that the file holds what TensorRT wants: a scale of
the tensor's own type (no Cast around the pair in half precision), an INT8 zero-point without a Cast, `axis` always
there for a vector of scales, and no `amax.item()`, which the dynamo exporter cannot trace.
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

INTEGERS = {(8, False): torch.int8, (8, True): torch.uint8}
"""Integer type by number of bits and whether it is unsigned; what the pairs of an export can have."""
TYPED_OPSET = 19
"""The first opset whose QuantizeLinear takes half precision."""


@dataclass(frozen=True)
class Encoding:
    """What a pair rounds to.

    Attributes:
        scale: ONNX's scale, amax / 127, float64: [] for one scale, [C] for one a channel. No tensor, as it is a
        constant
            of the graph whatever the tracer does.
        axis: the channel axis; None for one scale.
        integers: the integer type.
    """

    scale: NDArray[np.float64]
    axis: int | None
    integers: torch.dtype = torch.int8


@dataclass
class Writing:
    """An export in progress: a tensor that is read twice through equal grids gets one pair.

    Attributes:
        opset: the opset of the export.
        dynamo: whether torch.export traces it.
    """

    opset: int
    dynamo: bool
    _made: dict[tuple[int, int, bytes, int | None], tuple[Tensor, Tensor]] = field(default_factory=dict)
    _outputs: set[int] = field(default_factory=set)
    _known: dict[Hashable, Tensor] = field(default_factory=dict)

    def pair(self, x: Tensor, grid: Encoding) -> Tensor:
        """The tensor behind its pair."""
        at = (id(x), _version(x), grid.scale.tobytes(), grid.axis)
        if at not in self._made or _version(self._made[at][1]):  # one that was changed in place serves nobody else
            scale, zero = self._constants(x, grid)
            made = self._dynamo(x, scale, zero, grid.axis) if self.dynamo else _apply(_Pair, x, scale, zero, grid.axis)
            self._made[at] = (x, made)  # both are kept, or other tensors could get their ids
            self._outputs.add(id(made))
        return self._made[at][1]

    def made(self, x: Tensor) -> bool:
        """Whether the tensor comes out of a pair, and is as it came."""
        return id(x) in self._outputs and not _version(x)

    def _constants(self, x: Tensor, grid: Encoding) -> tuple[Tensor, Tensor]:
        """Scale, of the tensor's type, and zero-point. Where amax / 127 is below what the type can hold, its least
        positive number stands for it."""
        limits = torch.finfo(x.dtype)
        grid = replace(grid, scale=np.maximum(grid.scale, limits.smallest_normal * limits.eps))
        if self.dynamo:
            scale = torch.tensor(grid.scale.tolist(), dtype=x.dtype, device=x.device)
            return scale, torch.zeros(grid.scale.shape, dtype=grid.integers, device=x.device)
        # What comes from numpy is one constant to the tracer, anything else half a dozen nodes, and the exporter's
        # passes are slower than linear. Equal ones are made once.
        scales = np.asarray(grid.scale, np.float32 if x.dtype == torch.float32 else np.float64)
        found = []
        for values, kind in ((scales, x.dtype), (np.zeros(grid.scale.shape, np.int8), grid.integers)):
            at = (values.tobytes(), values.shape, kind, x.device)
            if at not in self._known:
                made = torch.from_numpy(values)
                self._known[at] = made if (made.dtype, made.device) == (kind, x.device) else made.to(x.device, kind)
            found.append(self._known[at])
        return found[0], found[1]

    def _dynamo(self, x: Tensor, scale: Tensor, zero: Tensor, axis: int | None) -> Tensor:
        attrs: dict[str, Any] = {} if axis is None else {"axis": axis}
        write = torch.onnx.ops.symbolic
        integers = write("QuantizeLinear", (x, scale, zero), attrs, dtype=zero.dtype, shape=x.shape, version=self.opset)
        made: Tensor = write(
            "DequantizeLinear", (integers, scale, zero), attrs, dtype=x.dtype, shape=x.shape, version=self.opset
        )
        return made


def _version(x: Tensor) -> int:
    """How often a tensor was changed in place; one of inference mode does not count, and no weight is changed."""
    return 0 if x.is_inference() else x._version


def _apply(function: Any, *args: Any) -> Any:
    """Calls an autograd function; torch leaves that untyped."""
    return function.apply(*args)


class _Pair(torch.autograd.Function):
    """The pair for the TorchScript exporter, which calls `symbolic`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, axis: int | None) -> Tensor:
        """What the tracer runs: shapes are all it needs."""
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero: Any, axis: int | None) -> Any:
        """The two nodes."""
        attrs = {} if axis is None else {"axis_i": axis}
        integers = g.op("QuantizeLinear", x, scale, zero, **attrs)
        return g.op("DequantizeLinear", integers, scale, zero, **attrs).setType(x.type())


@contextmanager
def restored(quantizers: Any, *names: str) -> Iterator[None]:
    """Gives attributes of quantizers their values back when the block ends."""
    kept = [(q, name, getattr(q, name)) for q in quantizers for name in names]
    try:
        yield
    finally:
        for quantizer, name, value in kept:
            setattr(quantizer, name, value)
