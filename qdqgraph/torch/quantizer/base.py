"""`Quantizer`: what a quantizer is in every library, and what this package adds to it: the Q/DQ pair of an export.

A library's quantizer is adopted by a class of its backend that derives from `Quantizer` first and from the library's
own class second. No other module uses a library's class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import TorchError
from ...graph.amax import integer_bound, scale_from_amax
from .pairing import INTEGER_TYPES, Encoding, PairWriter

if TYPE_CHECKING:
    from .backend import Backend

PLAIN = (Tensor, nn.Parameter)
"""Classes of tensors that define no functions of their own."""


def _is_skipped() -> bool:
    """Whether the only function mode of torch that is active has nothing to do inside quantizers."""
    if torch._C._len_torch_function_stack() != 1:
        return False
    return bool(getattr(torch._C._get_function_stack_at(0), "skips_quantizers", False))


class Quantizer(nn.Module):
    """A fake quantizer that loads a calibrated state on any device, and writes its own Q/DQ pair during an export.

    Its library provides fake quantization and its gradient, and the attributes without a value here. A quantizer is
    shared by putting the same object at several paths: all of them then have its amax.

    Attributes:
        library: the backend: how the library's modules hold quantizers.
        method: the name of a calibration method; "": `calibrate` chooses it.
        percentile: of values that stay within amax, in percent; None: `calibrate` chooses it.
        num_bits, unsigned: of the integers; a tuple for floating-point formats.
        axis: the channel axis of amax; a tuple with one entry is possible; None: a per-tensor amax.
        amax: the largest magnitude that the integers represent, [] or with one entry per channel; None: not calibrated.
    """

    library: ClassVar[Backend]
    method: str = ""
    percentile: float | None = None
    num_bits: Any
    unsigned: bool
    axis: Any
    amax: Any
    _writer: PairWriter | None = None
    _encoding: Encoding | TorchError | None = None
    _probe_scale: float | None = None
    _disabled: bool
    _if_quant: bool
    _if_calib: bool
    _calibrator: Any
    _num_bits: int
    _unsigned: bool
    _axis: Any
    _amax: Tensor

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The library's other attributes."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[...] → the same shape and type."""
        if self._writer is not None and not self._disabled and self._if_quant:
            if isinstance(self._encoding, TorchError):
                raise self._encoding
            assert self._encoding is not None
            return self._writer.pair(self.before_rounding(inputs), self._encoding)
        if type(inputs) in PLAIN and _is_skipped():
            with torch._C.DisableTorchFunction():
                unobserved: Tensor = super().forward(inputs)
                return unobserved
        rounded: Tensor = super().forward(inputs)
        return rounded

    def before_rounding(self, inputs: Tensor) -> Tensor:
        """What the library computes from its input before it rounds it: nothing."""
        return inputs

    @property
    def bound(self) -> int:
        """The largest integer: 127 for 8 bits."""
        return integer_bound(self._num_bits, self._unsigned)

    @property
    def amax_scale(self) -> float:
        """The factor between the stored amax and the one that rounding uses."""
        return 1.0

    def unsupported(self) -> str:
        """Why no Q/DQ pair can express this quantizer; "" if one can."""
        return ""

    def encoding(self, *, allow_zero: bool = False) -> Encoding:
        """The parameters of the quantizer's pair in a file.

        Args:
            allow_zero: an amax of 0 becomes a scale of 1, which keeps zeros and clips at 127.

        Raises:
            TorchError: it has no amax, one that is zero (without `allow_zero`) or not finite, or several channel axes,
                or its library rounds in a way that no pair expresses.
        """
        if reason := self.unsupported():
            raise TorchError(reason)
        integers = INTEGER_TYPES.get((self._num_bits, self._unsigned), torch.int8)
        amax: Tensor | None = self.amax
        if self._probe_scale is not None:
            size = 1 if amax is None or self._axis is None else amax.numel()
            return Encoding(
                np.full((size,) if size > 1 else (), self._probe_scale),
                self.axis_of(amax) if size > 1 else None,
                integers,
            )
        if amax is None:
            raise TorchError("it has no amax: calibrate it, or disable it")
        scale = scale_from_amax(amax.detach().double().cpu().numpy() * self.amax_scale, self.bound)
        if not np.isfinite(scale).all():
            raise TorchError("its amax is not finite: calibrate it with finite data, or disable it")
        if scale.size == 1:
            if float(scale.item()) <= 0 and not allow_zero:
                raise TorchError(
                    "its amax is 0, it received only zeros: calibrate it with more data, disable it, or allow zero"
                )
            return Encoding((scale if float(scale.item()) > 0 else np.ones(())).reshape(()), None, integers)
        # A channel whose weights are all 0 stays 0 with any scale; the library also writes 1.0.
        return Encoding(np.where(scale > 0, scale, 1.0).reshape(-1), self.axis_of(amax), integers)

    def axis_of(self, amax: Tensor | None) -> int:
        """The channel axis of a vector amax.

        Raises:
            TorchError: it has several.
        """
        axes = [i for i, n in enumerate(amax.shape) if n > 1] if amax is not None else []
        if len(axes) > 1:
            raise TorchError("its amax has several axes, which no ONNX pair supports")
        if axes:
            return axes[0]
        own = self._axis if isinstance(self._axis, int) else self._axis[0]
        return int(own)

    def set_amax(self, amax: Tensor | None) -> None:
        """Replaces amax, in the units of the tensor, of any shape; None removes it."""
        if amax is None:
            self._buffers.pop("_amax", None)
        elif "_amax" in self._buffers and self._amax.shape == amax.shape:
            self._amax.data.copy_(amax)
        else:
            self._buffers.pop("_amax", None)
            self.register_buffer("_amax", amax.detach().clone())

    def disable(self) -> None:
        """Lets every tensor pass unchanged."""
        self._disabled = True

    def enable(self) -> None:
        """Rounds, or collects, again."""
        self._disabled = False

    def collect_with(self, calibrator: Any) -> None:
        """Collects what it receives with this calibrator and does not round, until `stop_collecting`."""
        self._calibrator = calibrator
        self._if_calib, self._if_quant = True, False

    def pause_collecting(self) -> None:
        """Neither collects nor rounds."""
        self._if_calib = False

    def stop_collecting(self) -> None:
        """Rounds again."""
        self._if_calib, self._if_quant = False, True

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Allocates the amax of a state on the quantizer's own device; the libraries do not."""
        found = state_dict.get(f"{prefix}_amax")
        own = self._buffers.get("_amax")
        if found is not None and (own is None or own.shape != found.shape):
            where = own.device if own is not None else torch.device("cpu")
            self.set_amax(torch.empty_like(found, device=where))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
