"""`Quantizer`: pytorch-quantization's TensorQuantizer without its traps, and how a model's quantizers are found.

An instance of the library's class is re-classed (`adopt`), so a model that another script quantized serves as well.
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
from .pairing import INTEGERS, Encoding, Writing

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the library calls torch.jit.script when it is imported
    from pytorch_quantization import nn as qnn
    from pytorch_quantization import quant_modules
    from pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
    from pytorch_quantization.nn._functions import quant_rnn
    from pytorch_quantization.tensor_quant import QuantDescriptor


class Quantizer(qnn.TensorQuantizer):
    """A TensorQuantizer that loads a calibrated state on any device, and writes Q/DQ itself.

    Attributes:
        method: the name of a calibration method; "" leaves the choice to the run.
        percentile: of values that stay within amax, in percent; None leaves it to the run.
    """

    method: str = ""
    percentile: float | None = None
    _writing: Writing | None = None
    _grid: Encoding | TorchError | None = None
    _probe: float | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """[...] → the same shape and type."""
        if self._writing is not None and not self._disabled and self._if_quant:
            if isinstance(self._grid, TorchError):
                raise self._grid
            assert self._grid is not None
            return self._writing.pair(inputs, self._grid)
        made: Tensor = super().forward(inputs)
        return made

    @property
    def bound(self) -> int:
        """The largest integer: 127 for 8 bits."""
        return integer_bound(self._num_bits, self._unsigned)

    def grid(self) -> Encoding:
        """What the quantizer rounds to.

        Raises:
            TorchError: it has no amax, one that is no positive number, or more than one channel axis.
        """
        integers = INTEGERS.get((self._num_bits, self._unsigned), torch.int8)
        amax: Tensor | None = self.amax
        if self._probe is not None:
            size = 1 if amax is None or self._axis is None else amax.numel()
            return Encoding(
                np.full((size,) if size > 1 else (), self._probe), self.axis_of(amax) if size > 1 else None, integers
            )
        if amax is None:
            raise TorchError("it has no amax: calibrate it, or disable it")
        scale = scale_from_amax(amax.detach().double().cpu().numpy() * (self._scale_amax or 1.0), self.bound)
        if not np.isfinite(scale).all():
            raise TorchError("its amax is not finite: calibrate it with finite data, or disable it")
        if scale.size == 1:
            if float(scale.item()) <= 0:
                raise TorchError("its amax is 0, it saw nothing but zeros: calibrate it with more data, or disable it")
            return Encoding(scale.reshape(()), None, integers)
        # A channel without any weight is all zeros whatever its scale; the library writes 1.0 as well.
        return Encoding(np.where(scale > 0, scale, 1.0).reshape(-1), self.axis_of(amax), integers)

    def axis_of(self, amax: Tensor | None) -> int:
        """The channel axis of a vector amax.

        Raises:
            TorchError: it has several.
        """
        axes = [i for i, n in enumerate(amax.shape) if n > 1] if amax is not None else []
        if len(axes) > 1:
            raise TorchError("it has one amax for several axes, which ONNX has no pair for")
        if axes:
            return axes[0]
        own = self._axis if isinstance(self._axis, int) else self._axis[0]
        return int(own)

    def set_amax(self, amax: Tensor | None) -> None:
        """Gives the quantizer an amax of any shape, or takes it away."""
        if amax is None:
            self._buffers.pop("_amax", None)
        elif "_amax" in self._buffers and self._amax.shape == amax.shape:
            self._amax.data.copy_(amax)
        else:
            self._buffers.pop("_amax", None)
            self.register_buffer("_amax", amax.detach().clone())

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Makes room for the amax of the state on the CPU; the library's own makes it on CUDA alone."""
        found = state_dict.get(f"{prefix}_amax")
        if found is not None and (self.amax is None or self.amax.shape != found.shape):
            where = self.amax.device if self.amax is not None else torch.device("cpu")
            self.set_amax(torch.empty_like(found, device=where))
        with quiet():
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the library from logging a warning for each quantizer and step."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def made(descriptor: QuantDescriptor, method: str = "", percentile: float | None = None) -> Quantizer:
    """A new quantizer."""
    new = Quantizer(descriptor)
    new.method, new.percentile = method, percentile
    return new


def settle(model: nn.Module) -> None:
    """Closes what an interrupted forward left open in this thread (see `scopes`)."""
    for module in model.modules():
        for hook in tuple(module._forward_pre_hooks.values()):
            if (own := getattr(hook, "settle", None)) is not None:
                own()


@contextmanager
def settled(model: nn.Module) -> Iterator[None]:
    """What runs a model: nothing stays open behind it, and the thread's function modes are those that were. Where an
    interrupt left one of ours on top, whoever had entered another below has taken off ours in its place."""
    settle(model)
    before: list[Any] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        settle(model)
        if _get_current_function_mode_stack() != before:  # type: ignore[no-untyped-call]
            while _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
                _pop_mode()  # type: ignore[no-untyped-call]
            for mode in before:
                _push_mode(mode)  # type: ignore[no-untyped-call]


def adopt(model: nn.Module) -> None:
    """Re-classes the library's own quantizers in a model, in place, once an interrupted forward is out of the way."""
    settle(model)
    for module in model.modules():
        if type(module) is qnn.TensorQuantizer:
            module.__class__ = Quantizer


def paths(model: nn.Module) -> dict[str, Quantizer]:
    """Every path of every quantizer; a shared one has several, the first of which names it."""
    adopt(model)
    return {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, Quantizer)}


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """The model's quantizers by their first path."""
    adopt(model)
    return {n: m for n, m in model.named_modules() if isinstance(m, Quantizer)}


def refuse_meta(model: nn.Module) -> None:
    """Refuses a model that has tensors without numbers.

    Raises:
        TorchError: a parameter or a buffer is on the meta device.
    """
    every = (*model.named_parameters(), *model.named_buffers())
    bare = [name for name, x in every if x.is_meta]
    if bare:
        more = f" and {len(bare) - 1} more are" if len(bare) > 1 else " is"
        raise TorchError(
            f"{bare[0]}{more} on the meta device, where there are no numbers: load the model's weights first, after "
            "model.to_empty(device='cpu') or with load_state_dict(..., assign=True)"
        )


def is_weight(path: str) -> bool:
    """Whether a quantizer of this path quantizes weights, by the library's names."""
    return "_weight_quantizer" in path.rsplit(".", 2)[-2 if path[-1].isdigit() else -1]


def parent(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that holds what stands at a path, and its name there."""
    above, _, name = path.rpartition(".")
    return model.get_submodule(above), name


__all__ = [
    "HistogramCalibrator",
    "MaxCalibrator",
    "QuantDescriptor",
    "Quantizer",
    "adopt",
    "is_weight",
    "made",
    "parent",
    "paths",
    "qnn",
    "quant_modules",
    "quant_rnn",
    "quantizers",
    "quiet",
    "refuse_meta",
    "settle",
    "settled",
]
