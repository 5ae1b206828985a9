"""The backend of NVIDIA Model Optimizer: models that `modelopt.torch.quantization.quantize` quantized.

Source: https://nvidia.github.io/Model-Optimizer/reference/generated/modelopt.torch.quantization.html
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import modelopt.torch.quantization as mtq
from modelopt.torch.quantization.config import QuantizerAttributeConfig
from modelopt.torch.quantization.nn import TensorQuantizer
from modelopt.torch.quantization.nn.modules.quant_rnn import QuantRNNBase
from torch import Tensor, nn

from ...errors import TorchError
from .base import Quantizer

QUANTIZER = re.compile(r"\.(_input\d+|(\w+_)?(input|weight|output|bmm|softmax))_quantizer(\.\d+)?$")
"""How the library names the quantizers of a module, and this package those of a call."""

ADVICE = "quantize with INT8_DEFAULT_CFG, or disable it"


class ModeloptQuantizer(Quantizer, TensorQuantizer):
    """A TensorQuantizer of Model Optimizer."""

    def before_rounding(self, inputs: Tensor) -> Tensor:
        """The input, scaled as SmoothQuant requires."""
        scale = self.pre_quant_scale
        return inputs if scale is None else inputs * scale

    def unsupported(self) -> str:
        """Formats other than integers with one amax per tensor or channel, and what is computed at run time."""
        if not isinstance(self._num_bits, int):
            exponent, mantissa = self._num_bits
            return f"its format is floating-point, E{exponent}M{mantissa}, which no INT8 pair expresses: {ADVICE}"
        for what, found in (
            ("it has one scale per block", self._block_sizes),
            ("it computes its amax at run time", self._dynamic),
            ("it subtracts a bias", self._bias),
            ("it rotates its input", self.rotate_is_enabled),
            ("another function rounds", self.backend),
        ):
            if found:
                return f"{what}, which no INT8 pair expresses: {ADVICE}"
        return ""


class Modelopt:
    """See `Backend`."""

    name = "modelopt"
    folder = str(Path(mtq.__file__).parent) + os.sep
    recurrent: tuple[type[nn.Module], ...] = (QuantRNNBase,)

    def adopt(self, module: nn.Module) -> bool:
        """Gives the library's own class the backend's.

        Raises:
            TorchError: the module is an enabled quantizer of a derived class, which rounds in another way.
        """
        if type(module) is not TensorQuantizer:
            if isinstance(module, TensorQuantizer) and not isinstance(module, Quantizer) and module.is_enabled:
                kind = type(module).__name__
                raise TorchError(f"a quantizer is a {kind}, which no INT8 pair expresses: {ADVICE}")
            return False
        module.__class__ = ModeloptQuantizer
        return True

    def new(
        self, num_bits: int = 8, axis: int | None = None, unsigned: bool = False, histogram: bool = False
    ) -> Quantizer:
        """A quantizer without amax."""
        kind = "histogram" if histogram else "max"
        config = QuantizerAttributeConfig(num_bits=num_bits, axis=axis, unsigned=unsigned, calibrator=kind)
        return ModeloptQuantizer(config)

    def is_weight(self, path: str) -> bool:
        """By the last name of the path, or the last but one in a sequence of quantizers."""
        return path.rsplit(".", 2)[-2 if path[-1].isdigit() else -1].endswith("weight_quantizer")

    def layer_of(self, path: str) -> str:
        """The path without the library's name of the quantizer."""
        return QUANTIZER.sub("", path)

    def put(self, holder: nn.Module, name: str, quantizer: Quantizer) -> None:
        """Recurrent layers hold their quantizers a second time, in lists that their functions read."""
        old = holder._modules[name]
        holder._modules[name] = quantizer
        for value in vars(holder).values():
            if isinstance(value, list):
                value[:] = [quantizer if x is old else x for x in value]


BACKEND = Modelopt()
ModeloptQuantizer.library = BACKEND

__all__ = ["BACKEND", "Modelopt", "ModeloptQuantizer"]
