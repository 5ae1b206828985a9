"""Quantizes a network with Model Optimizer: its quantized classes, with the quantizers of a configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO

from torch import nn

from ..quantizer.backend import MODELOPT, find_backend
from ..quantizer.base import Quantizer
from ..quantizer.quantizer import convert_quantizers


def convert_by_modelopt(model: nn.Module) -> None:
    """Gives every module that Model Optimizer supports its quantized class, in place, with the quantizers of
    INT8_DEFAULT_CFG, not calibrated.

    Raises:
        TorchError: Model Optimizer is not installed.
    """
    find_backend(MODELOPT)
    import modelopt.torch.quantization as mtq

    with redirect_stdout(StringIO()):  # it prints how many quantizers it inserted
        mtq.quantize(model, {**mtq.INT8_DEFAULT_CFG, "algorithm": None})
    convert_quantizers(model)


def place_quantizers(model: nn.Module, parts: Mapping[str, Mapping[bool, Quantizer]]) -> tuple[str, ...]:
    """Puts quantizers into the modules that `convert_by_modelopt` converted, and disables those of other modules.

    Args:
        parts: by the path of a module, the quantizers to copy: of its weights (True) and of its inputs (False).

    Returns:
        The paths of the modules that have an enabled quantizer.
    """
    found: dict[str, None] = {}
    for path, module in model.named_modules():
        for name, old in list(module.named_children()):
            if not isinstance(old, Quantizer) or old._disabled:
                continue
            if path not in parts:
                old.disable()
            else:
                weight = old.library.is_weight(f"{path}.{name}")
                old.library.put(module, name, copy.deepcopy(parts[path][weight]))
                found[path] = None
    return tuple(found)
