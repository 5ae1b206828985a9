"""Weights that spectral_norm, weight_norm or orthogonal make anew in every forward, from other parameters.

In eval mode each comes out the same every time. A quantizer behind such a computation rounds what no exporter knows for
a constant, and a parametrized module is of a class of its own, which has no quantized twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils import parametrizations, parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

HOOKS = {SpectralNorm: remove_spectral_norm, WeightNorm: remove_weight_norm}
"""The old form, a hook in front of the forward, and what takes it away again."""


def settle_weights(model: nn.Module) -> None:
    """Puts each such weight in the place of what it is made from; the model, in eval mode, computes the same."""
    for module in list(model.modules()):
        for name, remove in _hooked(module):
            trained = any(getattr(module, f"{name}{part}").requires_grad for part in _parts(module, name))
            remove(module, name)
            getattr(module, name).requires_grad_(trained)
        if parametrize.is_parametrized(module):
            held: Any = module.parametrizations
            for name, kinds in list(held.items()):
                if all(type(kind).__module__ == parametrizations.__name__ for kind in kinds):
                    trained = any(p.requires_grad for p in kinds.parameters(recurse=False))
                    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
                    getattr(module, name).requires_grad_(trained)


def spectral(module: nn.Module) -> bool:
    """Whether spectral_norm's old form makes a weight of the module."""
    return any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values())


def _hooked(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, SpectralNorm | WeightNorm):
            yield hook.name, HOOKS[type(hook)]


def _parts(module: nn.Module, name: str) -> Iterator[str]:
    """How the parameters are called that a weight is made from, behind its own name."""
    return (part for part in ("_orig", "_g", "_v") if f"{name}{part}" in module._parameters)
