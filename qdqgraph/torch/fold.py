"""`fold_norms`: moves BatchNorms into the convolutions and Linears in front of them.

Beside a quantized weight no exporter and no engine folds them any more, and the Q/DQ of the weight would round what is
not the final weight.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, linear
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .example import run

# By the modules that define them: torch.nn's own names may be patched by the quantization library.
TRANSPOSED = (conv.ConvTranspose1d, conv.ConvTranspose2d, conv.ConvTranspose3d)
LAYERS = (conv.Conv1d, conv.Conv2d, conv.Conv3d, *TRANSPOSED, linear.Linear)
"""What a norm is folded into; a subclass may do something else with its weight, so none is taken."""
NORMS = (batchnorm.BatchNorm1d, batchnorm.BatchNorm2d, batchnorm.BatchNorm3d, batchnorm.SyncBatchNorm)
"""What does nothing but normalize."""


@dataclass
class _Result:
    """What a layer made in the run: the tensor, how often operators read it, and which norms normalize it."""

    layer: nn.Module
    tensor: weakref.ref[Tensor]
    reads: int
    norms: list[nn.Module]


class _Run:
    """The results of layers while they live, by id."""

    def __init__(self, norms: Mapping[int, nn.Module]) -> None:
        self.results: list[_Result] = []
        self.count: Counter[nn.Module] = Counter()
        self.norms = norms
        self._live: dict[int, _Result] = {}

    def made(self, layer: nn.Module, args: Any, output: Any) -> None:
        """The hook behind a layer."""
        self.count[layer] += 1
        if isinstance(output, Tensor):
            self._live[id(output)] = _Result(layer, weakref.ref(output), 0, [])
            self.results.append(self._live[id(output)])

    def ran(self, norm: nn.Module, args: Any, output: Any) -> None:
        """The hook behind a norm."""
        self.count[norm] += 1

    def of(self, x: Any) -> _Result | None:
        """The result that a tensor is; ids are given away again, so the tensor itself must be the same."""
        found = self._live.get(id(x))
        return found if found is not None and found.tensor() is x else None


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator, those inside scripted code as well."""

    def __init__(self, seen: _Run) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        for x in tree_leaves((args, kwargs or {})):
            found = self.seen.of(x)
            if found is not None:
                found.reads += 1
        return function(*args, **(kwargs or {}))


class _Normalized(TorchFunctionMode):
    """Sees which norm each call of `batch_norm` belongs to."""

    def __init__(self, seen: _Run) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call."""
        if function is nn.functional.batch_norm and len(args) > 1:
            found, norm = self.seen.of(args[0]), self.seen.norms.get(id(args[1]))
            if found is not None and norm is not None:
                found.norms.append(norm)
        return function(*args, **(kwargs or {}))


class _Passed(TorchFunctionMode):
    """Lets what `batch_norm` would normalize pass as it is."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call."""
        return args[0] if function is nn.functional.batch_norm else function(*args, **(kwargs or {}))


class Folded(nn.Module):
    """What a norm of a class of its own does beside normalizing, an activation perhaps.

    Attributes:
        norm: the module; its statistics are in the layer in front of it.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Any:
        """The norm's own forward, without its normalization."""
        with _Passed():
            return self.norm(x)


def fold_norms(model: nn.Module, example: Any) -> tuple[str, ...]:
    """Folds every BatchNorm that directly follows a convolution or Linear, in place, and leaves an Identity, or what a
    norm of a class of its own does beside normalizing.

    Which does is seen in a run: the normalized tensor is the layer's result, no other operator reads it, nothing keeps
    it, and both modules run once. Modules with hooks stay as they are: a hook would see other numbers, and weight_norm
    makes its weight anew. The model goes to eval mode, for which alone folding is exact.

    Args:
        example: an input, a tuple of inputs, or a mapping of keyword arguments.

    Returns:
        The paths of the BatchNorms that were folded.
    """
    model.eval()
    layers = [m for m in model.modules() if type(m) in LAYERS and "weight" in m._parameters and not _hooked(m)]
    norms: dict[nn.Module, str] = {
        m: n
        for n, m in model.named_modules()
        if isinstance(m, batchnorm._BatchNorm) and m.running_mean is not None and not _hooked(m)
    }
    seen = _Run({id(m.running_mean): m for m in norms})
    handles = [m.register_forward_hook(seen.made) for m in layers]
    handles += [m.register_forward_hook(seen.ran) for m in norms]
    try:
        with torch.no_grad(), _Normalized(seen), _Reads(seen):
            output = run(model, example)
    finally:
        for handle in handles:
            handle.remove()
    gc.collect()  # what only a cycle of references still holds is gone
    folded: dict[nn.Module, nn.Module] = {}
    for result in seen.results:
        alone = result.reads == len(result.norms) == 1 and seen.count[result.layer] == 1
        if alone and seen.count[result.norms[0]] == 1 and result.tensor() is None:  # the model returned or kept it else
            folded[result.norms[0]] = result.layer
    del output
    for norm, layer in folded.items():
        _fold(layer, norm)
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module in folded:
            above, _, name = path.rpartition(".")
            setattr(model.get_submodule(above), name, nn.Identity() if type(module) in NORMS else Folded(module))
    return tuple(norms[norm] for norm in folded)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _fold(layer: Any, norm: Any) -> None:
    """Scales the layer's output channels and shifts its bias; torch's own helper knows no groups of transposed ones."""

    def exact(x: Tensor) -> Tensor:
        return x.detach().to(torch.promote_types(x.dtype, torch.float32))

    factor = torch.rsqrt(exact(norm.running_var) + norm.eps)
    factor = factor if norm.weight is None else factor * exact(norm.weight)
    shift = 0 if norm.bias is None else exact(norm.bias)
    weight = exact(layer.weight)
    if isinstance(layer, TRANSPOSED):
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])  # [groups, in / groups, out / groups, ...]
        by_output = factor.reshape(layer.groups, 1, -1, *[1] * (weight.dim() - 2))
        scaled = (grouped * by_output).reshape(weight.shape)
    else:
        scaled = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    bias = torch.zeros_like(factor) if layer.bias is None else exact(layer.bias)
    shifted = (bias - exact(norm.running_mean)) * factor + shift
    frozen = not (layer.weight if layer.bias is None else layer.bias).requires_grad
    layer.bias = nn.Parameter(shifted.to(layer.weight.dtype), not frozen)
    layer.weight = nn.Parameter(scaled.to(layer.weight.dtype), layer.weight.requires_grad)
