"""Weights that a module computes in every forward: torch's parametrizations, and the hooks of its older `weight_norm`
and `spectral_norm`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


@contextmanager
def constant_weights(model: nn.Module) -> Iterator[None]:
    """Replaces each computed weight with a parameter of its current value, until the block ends: in a graph a computed
    weight would be an activation."""
    kept = [(m, m.__class__, dict(m.__dict__), dict(m._parameters)) for m in model.modules() if _computes_weights(m)]
    try:
        for module, *_ in kept:
            _store_weights(module)
        yield
    finally:
        for module, kind, attributes, parameters in kept:
            module.__class__ = kind
            module.__dict__.update(attributes)
            module._parameters.clear()
            module._parameters.update(parameters)


def _computes_weights(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module) or bool(_weight_hooks(module))


def _weight_hooks(module: nn.Module) -> dict[int, Any]:
    """The hooks that compute a tensor of the module, by number."""
    return {n: hook for n, hook in module._forward_pre_hooks.items() if hasattr(hook, "compute_weight")}


def _store_weights(module: nn.Module) -> None:
    """Stores a module's computed weights as parameters, and removes the hooks and parametrizations."""
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for hook in _weight_hooks(module).values():
            hook(module, ())
            found[hook.name] = module.__dict__.pop(hook.name)
        if parametrize.is_parametrized(module):
            found.update({name: getattr(module, name) for name in module.parametrizations})  # type: ignore[union-attr]
            module.__class__ = parametrize.type_before_parametrizations(module)
    hooks = module._forward_pre_hooks
    module._forward_pre_hooks = type(hooks)((n, h) for n, h in hooks.items() if n not in _weight_hooks(module))
    for name, value in found.items():
        module._parameters[name] = nn.Parameter(value.detach().clone(), requires_grad=False)
