"""Weights that a module computes anew in every forward: torch's parametrizations, and the hooks of its older
`weight_norm` and `spectral_norm`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


@contextmanager
def constant(model: nn.Module) -> Iterator[None]:
    """Each of them a parameter, with the value that it has in eval mode; afterwards as it was. In a graph a computed
    weight would be an activation."""
    kept = [(m, m.__class__, dict(m.__dict__), dict(m._parameters)) for m in model.modules() if _computes(m)]
    try:
        for module, *_ in kept:
            _settle(module)
        yield
    finally:
        for module, kind, attributes, parameters in kept:
            module.__class__ = kind
            module.__dict__.update(attributes)
            module._parameters.clear()
            module._parameters.update(parameters)


def _computes(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module) or bool(_hooks(module))


def _hooks(module: nn.Module) -> dict[int, Any]:
    """The hooks that compute a tensor of the module, by number."""
    return {n: hook for n, hook in module._forward_pre_hooks.items() if hasattr(hook, "compute_weight")}


def _settle(module: nn.Module) -> None:
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for hook in _hooks(module).values():
            hook(module, ())
            found[hook.name] = module.__dict__.pop(hook.name)
        if parametrize.is_parametrized(module):
            found.update({name: getattr(module, name) for name in module.parametrizations})  # type: ignore[union-attr]
            module.__class__ = parametrize.type_before_parametrizations(module)
    hooks = module._forward_pre_hooks
    module._forward_pre_hooks = type(hooks)((n, h) for n, h in hooks.items() if n not in _hooks(module))
    for name, value in found.items():
        module._parameters[name] = nn.Parameter(value.detach().clone(), requires_grad=False)
