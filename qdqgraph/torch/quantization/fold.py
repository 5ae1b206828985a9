"""`fold_norms`: moves BatchNorms into the convolutions and Linears in front of them.

Beside a quantized weight no exporter and no engine folds them any more, and the Q/DQ of the weight would round what is
not the final weight.
"""

from __future__ import annotations

import gc
import inspect
import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, linear
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..calls.example import run
from ..quantizer.quantizer import refuse_meta, settled

# By the modules that define them: torch.nn's own names may be patched by the quantization library.
TRANSPOSED = (conv.ConvTranspose1d, conv.ConvTranspose2d, conv.ConvTranspose3d)
LAYERS = (conv.Conv1d, conv.Conv2d, conv.Conv3d, *TRANSPOSED, linear.Linear)
"""What a norm is folded into; a subclass may do something else with its weight, so none is taken."""
NORMS = (batchnorm.BatchNorm1d, batchnorm.BatchNorm2d, batchnorm.BatchNorm3d, batchnorm.SyncBatchNorm)
"""What does nothing but normalize."""
NORMALIZING = inspect.signature(nn.functional.batch_norm)


@dataclass
class _Result:
    """What a layer made in the run: the tensor, how often operators read it, and which norms normalize it."""

    layer: nn.Module
    tensor: weakref.ref[Tensor]
    reads: int
    norms: list[nn.Module]


class _Run:
    """The results of layers while they live, by id; which modules run; and whose weights or statistics others read.

    Attributes:
        count: how often each module ran; uses: how often the statistics of each norm normalized something.
        public: modules one of whose tensors was read outside of their own forward.
    """

    def __init__(self, layers: Iterable[nn.Module], norms: Iterable[nn.Module]) -> None:
        self.results: list[_Result] = []
        self.count: Counter[nn.Module] = Counter()
        self.uses: Counter[nn.Module] = Counter()
        self.public: set[nn.Module] = set()
        self._norms = set(norms)
        self._live: dict[int, _Result] = {}
        self._inside: list[nn.Module] = []
        self._owners: dict[int, list[nn.Module]] = {}
        for module in (*layers, *self._norms):
            for name in ("weight", "bias", "running_mean", "running_var"):
                if (x := getattr(module, name, None)) is not None:
                    self._owners.setdefault(_memory(x), []).append(module)

    def begins(self, module: nn.Module, args: Any) -> None:
        """The hook in front of a layer or a norm."""
        self._inside.append(module)
        self.count[module] += 1

    def made(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook behind it, also where it raised."""
        self._inside.pop()
        if isinstance(output, Tensor) and module not in self._norms:
            self._live[id(output)] = _Result(module, weakref.ref(output), 0, [])
            self.results.append(self._live[id(output)])

    def read(self, arguments: Any) -> None:
        """An operator reads these, or the model returns them."""
        for x in tree_leaves(arguments):
            if isinstance(x, Tensor):
                if (found := self.of(x)) is not None:
                    found.reads += 1
                self.public.update(m for m in self._owners.get(_memory(x), ()) if m not in self._inside)

    def normalizes(self, x: Tensor, mean: Any, var: Any, weight: Any, bias: Any, training: bool, eps: float) -> None:
        """A call of `batch_norm`; other values than the norm's own are no use that could be folded."""
        norm: Any = next((m for m in reversed(self._inside) if m in self._norms and m.running_mean is mean), None)
        if norm is not None:
            self.uses[norm] += 1
            own = var is norm.running_var and weight is norm.weight and bias is norm.bias and eps == norm.eps
            if own and not training and (found := self.of(x)) is not None:
                found.norms.append(norm)

    def of(self, x: Any) -> _Result | None:
        """The result that a tensor is; ids are given away again, so the tensor itself must be the same."""
        found = self._live.get(id(x))
        return found if found is not None and found.tensor() is x else None


def _memory(x: Tensor) -> int:
    """What a tensor shares with its views and with `.data`."""
    return id(x) if x.layout is not torch.strided else x.untyped_storage()._cdata


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator, those inside scripted code as well."""

    def __init__(self, seen: _Run) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        self.seen.read((args, kwargs))
        return function(*args, **(kwargs or {}))


def _arguments(args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call of `batch_norm` by name."""
    bound = NORMALIZING.bind(*args, **(kwargs or {}))
    bound.apply_defaults()
    return bound.arguments


class _Normalized(TorchFunctionMode):
    """Sees which norm each call of `batch_norm` belongs to."""

    def __init__(self, seen: _Run) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call."""
        if function is nn.functional.batch_norm:
            x, mean, var, weight, bias, training, _, eps = _arguments(args, kwargs).values()
            self.seen.normalizes(x, mean, var, weight, bias, training, eps)
        return function(*args, **(kwargs or {}))


class _Passed(TorchFunctionMode):
    """Lets what `batch_norm` would normalize by these statistics pass as it is."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.mean = mean

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call."""
        if function is nn.functional.batch_norm:
            found = _arguments(args, kwargs)
            if found["running_mean"] is self.mean:
                return found["input"]
        return function(*args, **(kwargs or {}))


class Folded(nn.Module):
    """What a norm of a class of its own does beside normalizing, an activation perhaps.

    Attributes:
        norm: the module; its statistics are in the layer in front of it.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Any:
        """The norm's own forward, without its normalization."""
        with _Passed(self.norm.running_mean):
            return self.norm(x)


def fold_norms(model: nn.Module, example: Any) -> tuple[str, ...]:
    """Folds every BatchNorm that directly follows a convolution or Linear, in place, and leaves an Identity, or what a
    norm of a class of its own does beside normalizing.

    Which does is seen in a run: the normalized tensor is the layer's result, no other operator reads it, nothing keeps
    it, both modules run once, and no one else reads their weights or statistics. Modules with hooks stay as they are: a
    hook would see other numbers, and weight_norm makes its weight anew; so do those with a method of their own, a
    `forward` that was set on the instance. The model goes to eval mode, for which alone folding is exact.

    Args:
        model: float, not quantized.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as the model is exported with.

    Returns:
        The paths of the BatchNorms that were folded.

    Raises:
        TorchError: the model has tensors on the meta device, or fails on the example.
    """
    refuse_meta(model)
    model.eval()
    layers = [m for m in model.modules() if type(m) in LAYERS and "weight" in m._parameters and not _changed(m)]
    norms: dict[nn.Module, str] = {
        m: n
        for n, m in model.named_modules()
        if isinstance(m, batchnorm._BatchNorm) and m.running_mean is not None and not _changed(m)
    }
    seen = _Run(layers, norms)
    handles = [m.register_forward_pre_hook(seen.begins) for m in (*layers, *norms)]
    handles += [m.register_forward_hook(seen.made, always_call=True) for m in (*layers, *norms)]
    try:
        with torch.no_grad(), _Normalized(seen), _Reads(seen), settled(model):
            output = run(model, example)
    finally:
        for handle in handles:
            handle.remove()
    seen.read(output)
    gc.collect()  # what only a cycle of references still holds is gone
    folded: dict[nn.Module, nn.Module] = {}
    for result in seen.results:
        alone = result.reads == len(result.norms) == 1 and result.tensor() is None  # the model returned or kept it else
        both = {result.layer, *result.norms}
        if (
            alone
            and all(seen.count[m] == 1 for m in both)
            and not both & seen.public
            and seen.uses[result.norms[0]] == 1
        ):
            folded[result.norms[0]] = result.layer
    del output
    for norm, layer in folded.items():
        _fold(layer, norm)
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module in folded:
            above, _, name = path.rpartition(".")
            setattr(model.get_submodule(above), name, nn.Identity() if type(module) in NORMS else Folded(module))
    return tuple(norms[norm] for norm in folded)


def _changed(module: nn.Module) -> bool:
    """Whether a module does not do what its class does: it has hooks, or methods that were set on the instance."""
    patched = any(callable(getattr(type(module), name, None)) for name in vars(module))
    return patched or bool(module._forward_hooks or module._forward_pre_hooks)


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
