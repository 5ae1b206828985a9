"""What a model's quantizers and layers compute in one call, place by place."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..exporting.paths import separate_quantizers
from ..quantizer.base import Quantizer
from .calls import array_of


@dataclass(frozen=True)
class At:
    """One run of one quantizer.

    Attributes:
        path: the first path of the quantizer in the model.
        number: 0 for the first tensor that it quantizes in a call of the model, and so on.
    """

    path: str
    number: int


@dataclass(frozen=True)
class Rounding:
    """What a quantizer computes.

    Attributes:
        at: which quantizer, and which of its runs.
        paths: every path of it.
        values: its input; scale: ONNX's scale, which broadcasts over it.
        integers: its output divided by the scale.
    """

    at: At
    paths: tuple[str, ...]
    quantizer: Quantizer
    values: Tensor
    scale: NDArray[np.float64]
    output: Tensor

    @property
    def integers(self) -> NDArray[np.int64]:
        """The integers that its output represents."""
        with np.errstate(invalid="ignore"):  # of nan
            found: NDArray[np.int64] = np.rint(array_of(self.output) / self.scale).astype(np.int64)
        return found


@contextmanager
def observed_quantizers(model: nn.Module, see: Callable[[Rounding], None]) -> Iterator[None]:
    """Calls `see` for each tensor that an enabled quantizer rounds, in the block; a quantizer that several places share
    counts at each place. A tensor that one quantizer rounds twice is seen once, as it has one pair in the file."""
    with separate_quantizers(model) as found:
        watched = [_Watched(paths, quantizer, see) for paths, quantizer in found.items()]
        try:
            for each in watched:
                each.quantizer.__dict__["forward"] = each
            yield
        finally:
            for each in watched:
                each.quantizer.__dict__.pop("forward", None)


class _Watched:
    """The forward of one quantizer that reports what it computes."""

    def __init__(self, paths: tuple[str, ...], quantizer: Quantizer, see: Callable[[Rounding], None]) -> None:
        self.paths, self.quantizer, self.see = paths, quantizer, see
        self._seen: list[tuple[weakref.ref[Tensor], int]] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        """[...] → the same shape and type."""
        quantizer = self.quantizer
        output: Tensor = type(quantizer).forward(quantizer, inputs)
        if quantizer._disabled or not quantizer._if_quant:
            return output
        values = quantizer.before_rounding(inputs)
        version = 0 if values.is_inference() else values._version
        if any(known() is values and number == version for known, number in self._seen):
            return output
        at = At(self.paths[0], len(self._seen))
        self._seen.append((weakref.ref(values), version))
        encoding = quantizer.encoding(allow_zero=True)
        scale = encoding.scale
        if encoding.axis is not None:
            scale = scale.reshape([-1 if i == encoding.axis % values.dim() else 1 for i in range(values.dim())])
        self.see(Rounding(at, self.paths, quantizer, values, scale, output))
        return output


@contextmanager
def observed_layers(
    model: nn.Module, paths: Collection[str], see: Callable[[str, NDArray[Any]], None]
) -> Iterator[None]:
    """Calls `see` with path and output of each of these modules whenever it runs, in the block."""

    def report(path: str, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            see(path, array_of(output))

    handles = [model.get_submodule(path).register_forward_hook(partial(report, path)) for path in paths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
