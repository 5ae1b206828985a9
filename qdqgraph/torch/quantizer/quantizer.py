"""`Quantizer`: pytorch-quantization's TensorQuantizer with its faults corrected; finds a model's quantizers.

Instances of the library's own class get this class (`convert_quantizers`), so models that another script quantized work
as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from absl import logging
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

from ...errors import TorchError
from ...graph.amax import integer_bound, scale_from_amax
from .pairing import INTEGER_TYPES, Encoding, PairWriter

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the library calls torch.jit.script when it is imported
    from pytorch_quantization import nn as qnn
    from pytorch_quantization import quant_modules
    from pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
    from pytorch_quantization.nn._functions import quant_rnn
    from pytorch_quantization.tensor_quant import QuantDescriptor


class Quantizer(qnn.TensorQuantizer):
    """A TensorQuantizer that loads a calibrated state on any device, and writes its own Q/DQ pair during an export.

    Attributes:
        method: the name of a calibration method; "": `calibrate` chooses it.
        percentile: of values that stay within amax, in percent; None: `calibrate` chooses it.
    """

    method: str = ""
    percentile: float | None = None
    _writer: PairWriter | None = None
    _encoding: Encoding | TorchError | None = None
    _probe_scale: float | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """[...] → the same shape and type."""
        if self._writer is not None and not self._disabled and self._if_quant:
            if isinstance(self._encoding, TorchError):
                raise self._encoding
            assert self._encoding is not None
            return self._writer.pair(inputs, self._encoding)
        rounded: Tensor = super().forward(inputs)
        return rounded

    @property
    def bound(self) -> int:
        """The largest integer: 127 for 8 bits."""
        return integer_bound(self._num_bits, self._unsigned)

    def encoding(self) -> Encoding:
        """The parameters of the quantizer's pair in a file.

        Raises:
            TorchError: it has no amax, one that is zero or not finite, or several channel axes.
        """
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
        scale = scale_from_amax(amax.detach().double().cpu().numpy() * (self._scale_amax or 1.0), self.bound)
        if not np.isfinite(scale).all():
            raise TorchError("its amax is not finite: calibrate it with finite data, or disable it")
        if scale.size == 1:
            if float(scale.item()) <= 0:
                raise TorchError("its amax is 0, it received only zeros: calibrate it with more data, or disable it")
            return Encoding(scale.reshape(()), None, integers)
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

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Allocates the amax of a state on the quantizer's own device; the library's method needs CUDA."""
        found = state_dict.get(f"{prefix}_amax")
        if found is not None and (self.amax is None or self.amax.shape != found.shape):
            where = self.amax.device if self.amax is not None else torch.device("cpu")
            self.set_amax(torch.empty_like(found, device=where))
        with silence_library_log():
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@contextmanager
def silence_library_log() -> Iterator[None]:
    """Suppresses the library's log, which has a warning for each quantizer and step."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def new_quantizer(descriptor: QuantDescriptor, method: str = "", percentile: float | None = None) -> Quantizer:
    """A quantizer without amax; `method` and `percentile` as in `Quantizer`."""
    quantizer = Quantizer(descriptor)
    quantizer.method, quantizer.percentile = method, percentile
    return quantizer


def close_interrupted_scopes(model: nn.Module) -> None:
    """Closes the scopes that an interrupted forward left open in this thread (see `scopes`)."""
    for module in model.modules():
        for hook in tuple(module._forward_pre_hooks.values()):
            if (close := getattr(hook, "close_interrupted", None)) is not None:
                close()


@contextmanager
def isolated_run(model: nn.Module) -> Iterator[None]:
    """A block that runs a model: no scope is open after it, and torch's function modes of this thread are the same as
    before. An interrupt can leave a mode of ours on top of the stack; a mode that was entered below it then removed
    ours instead of itself."""
    close_interrupted_scopes(model)
    before: list[Any] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        close_interrupted_scopes(model)
        if _get_current_function_mode_stack() != before:  # type: ignore[no-untyped-call]
            while _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
                _pop_mode()  # type: ignore[no-untyped-call]
            for mode in before:
                _push_mode(mode)  # type: ignore[no-untyped-call]


def convert_quantizers(model: nn.Module) -> None:
    """Gives the library's own quantizers in a model the class `Quantizer`, in place, and closes the scopes of an
    interrupted forward."""
    close_interrupted_scopes(model)
    for module in model.modules():
        if type(module) is qnn.TensorQuantizer:
            module.__class__ = Quantizer


def quantizer_paths(model: nn.Module) -> dict[str, Quantizer]:
    """Every path of every quantizer: a shared one has several."""
    convert_quantizers(model)
    return {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, Quantizer)}


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """The model's quantizers, each by the first of its paths."""
    convert_quantizers(model)
    return {n: m for n, m in model.named_modules() if isinstance(m, Quantizer)}


def refuse_meta_tensors(model: nn.Module) -> None:
    """Refuses a model that has tensors without values.

    Raises:
        TorchError: a parameter or a buffer is on the meta device.
    """
    every = (*model.named_parameters(), *model.named_buffers())
    found = [name for name, x in every if x.is_meta]
    if found:
        more = f" and {len(found) - 1} more are" if len(found) > 1 else " is"
        raise TorchError(
            f"{found[0]}{more} on the meta device, which has no values: load the model's weights first, after "
            "model.to_empty(device='cpu') or with load_state_dict(..., assign=True)"
        )


def is_weight_quantizer(path: str) -> bool:
    """Whether a quantizer of this path quantizes weights, by the library's names."""
    return "_weight_quantizer" in path.rsplit(".", 2)[-2 if path[-1].isdigit() else -1]


def parent_module(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The parent of the module at a path, and the module's name there."""
    above, _, name = path.rpartition(".")
    return model.get_submodule(above), name


__all__ = [
    "HistogramCalibrator",
    "MaxCalibrator",
    "QuantDescriptor",
    "Quantizer",
    "close_interrupted_scopes",
    "convert_quantizers",
    "is_weight_quantizer",
    "isolated_run",
    "new_quantizer",
    "parent_module",
    "qnn",
    "quant_modules",
    "quant_rnn",
    "quantizer_paths",
    "quantizers",
    "refuse_meta_tensors",
    "silence_library_log",
]
