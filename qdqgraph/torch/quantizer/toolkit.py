"""The backend of pytorch-quantization, NVIDIA's PyTorch Quantization Toolkit, with faults of its quantizer corrected.

Source: https://github.com/NVIDIA/TensorRT/tree/release/10.0/tools/pytorch-quantization
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from absl import logging
from torch import Tensor, nn

from .base import Quantizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the library calls torch.jit.script when it is imported
    from pytorch_quantization import nn as qnn
    from pytorch_quantization import quant_modules
    from pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
    from pytorch_quantization.nn._functions import quant_rnn
    from pytorch_quantization.tensor_quant import QuantDescriptor

QUANTIZER = re.compile(r"\._(input\d*|weight)_quantizers?(\.\d+)?$")
"""How the library names the quantizers of a module."""


LEAST_AMAX = 2.0**-24
"""The library treats an amax up to this as zero. Source: `_tensor_quant` in pytorch_quantization/tensor_quant.py."""


class ToolkitQuantizer(Quantizer, qnn.TensorQuantizer):
    """A TensorQuantizer of pytorch-quantization."""

    @property
    def amax_scale(self) -> float:
        """The library's `scale_amax`."""
        return float(self._scale_amax or 1.0)

    def _quant_forward(self, inputs: Tensor) -> Tensor:
        """The library's fake quantization, by the same operations without gradients, logs and temporary tensors where
        no gradient is computed."""
        amax = self._buffers.get("_amax")
        if amax is None or torch.is_grad_enabled() or not self._is_plain(inputs, amax):
            found: Tensor = super()._quant_forward(inputs)
            return found
        bound = self.bound
        scale = torch.div(amax.new_full((), bound), amax)  # a number / a tensor is rounded twice
        low = -bound if self._narrow_range else -bound - 1
        return torch.mul(inputs, scale).round_().clamp_(low, bound).div_(scale)

    def _is_plain(self, inputs: Tensor, amax: Tensor) -> bool:
        """Whether the library would compute nothing else: signed, float32, and no amax that it treats as zero."""
        return (
            self._fake_quant
            and not self._learn_amax
            and not self._unsigned
            and self._scale_amax is None
            and not qnn.TensorQuantizer.use_fb_fake_quant
            and inputs.dtype == amax.dtype == torch.get_default_dtype() == torch.float32
            and not torch.compiler.is_compiling()
            and float(amax if amax.numel() == 1 else amax.min()) > LEAST_AMAX
        )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Suppresses the warning for each amax."""
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


def new_quantizer(descriptor: QuantDescriptor, method: str = "", percentile: float | None = None) -> ToolkitQuantizer:
    """A quantizer without amax; `method` and `percentile` as in `Quantizer`."""
    quantizer = ToolkitQuantizer(descriptor)
    quantizer.method, quantizer.percentile = method, percentile
    return quantizer


class Toolkit:
    """See `Backend`."""

    name = "pytorch-quantization"
    folder = str(Path(qnn.__file__).parent.parent) + os.sep
    recurrent: tuple[type[nn.Module], ...] = (qnn.QuantLSTM, qnn.QuantLSTMCell)

    def adopt(self, module: nn.Module) -> bool:
        """Gives the library's own class the backend's; a derived class stays as it is."""
        if type(module) is not qnn.TensorQuantizer:
            return False
        module.__class__ = ToolkitQuantizer
        return True

    def new(
        self, num_bits: int = 8, axis: int | None = None, unsigned: bool = False, histogram: bool = False
    ) -> Quantizer:
        """A quantizer without amax."""
        kind = "histogram" if histogram else "max"
        return new_quantizer(QuantDescriptor(num_bits, axis=axis, calib_method=kind, unsigned=unsigned))

    def is_weight(self, path: str) -> bool:
        """By the last name of the path, or the last but one: the quantizers of an LSTM are lists."""
        return "_weight_quantizer" in path.rsplit(".", 2)[-2 if path[-1].isdigit() else -1]

    def layer_of(self, path: str) -> str:
        """The path without the library's name of the quantizer."""
        return QUANTIZER.sub("", path)

    def put(self, holder: nn.Module, name: str, quantizer: Quantizer) -> None:
        """The library's modules hold quantizers only as children."""
        holder._modules[name] = quantizer


BACKEND = Toolkit()
ToolkitQuantizer.library = BACKEND

__all__ = [
    "BACKEND",
    "HistogramCalibrator",
    "MaxCalibrator",
    "QuantDescriptor",
    "Toolkit",
    "ToolkitQuantizer",
    "new_quantizer",
    "qnn",
    "quant_modules",
    "quant_rnn",
    "silence_library_log",
]
