"""`fold_norms`: folds BatchNorms into the convolutions and Linears upstream of them.

No exporter and no engine folds them after a layer with a quantized weight, and the weight's Q/DQ would round a weight
that is not the final one.
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

from ..calls.example import run_example
from ..quantizer.quantizer import isolated_run, refuse_meta_tensors

# By the modules that define them: torch.nn's own names may be patched by the quantization library.
TRANSPOSED = (conv.ConvTranspose1d, conv.ConvTranspose2d, conv.ConvTranspose3d)
LAYERS = (conv.Conv1d, conv.Conv2d, conv.Conv3d, *TRANSPOSED, linear.Linear)
"""The layers that a norm is folded into; of their subclasses those whose forward passes its own weight and bias to the
function, and only at the output of that call."""
FUNCTIONS = {f"conv{n}d" for n in (1, 2, 3)} | {f"conv_transpose{n}d" for n in (1, 2, 3)} | {"linear"}
"""The functions of the layers."""
NORMS = (batchnorm.BatchNorm1d, batchnorm.BatchNorm2d, batchnorm.BatchNorm3d, batchnorm.SyncBatchNorm)
"""The norms that only normalize."""
NORMALIZING = inspect.signature(nn.functional.batch_norm)


@dataclass
class _LayerOutput:
    """A layer's output in the run: the tensor, how often operators read it, and which norms normalize it."""

    layer: nn.Module
    tensor: weakref.ref[Tensor]
    reads: int
    norms: list[nn.Module]


class _RunRecord:
    """The record of a run: the outputs of layers, which modules ran, and whose weights or statistics other code reads.

    Attributes:
        outputs: of layers, in order.
        count: how often each module ran; uses: how often the statistics of each norm normalized a tensor.
        shared: modules one of whose tensors was read outside their own forward.
    """

    def __init__(self, layers: Iterable[nn.Module], norms: Iterable[nn.Module]) -> None:
        self.outputs: list[_LayerOutput] = []
        self.count: Counter[nn.Module] = Counter()
        self.uses: Counter[nn.Module] = Counter()
        self.shared: set[nn.Module] = set()
        self._norms = set(norms)
        self._derived = {m for m in layers if type(m) not in LAYERS}
        self._live: dict[int, _LayerOutput] = {}
        self._inside: list[nn.Module] = []
        self._owners: dict[int, list[nn.Module]] = {}
        for module in (*layers, *self._norms):
            for name in ("weight", "bias", "running_mean", "running_var"):
                if (x := getattr(module, name, None)) is not None:
                    self._owners.setdefault(_storage_id(x), []).append(module)

    def on_begin(self, module: nn.Module, args: Any) -> None:
        """The hook before a layer or a norm."""
        self._inside.append(module)
        self.count[module] += 1

    def on_end(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook after it, also if it raised."""
        self._inside.pop()
        if isinstance(output, Tensor) and module not in self._norms and module not in self._derived:
            self._live[id(output)] = _LayerOutput(module, weakref.ref(output), 0, [])
            self.outputs.append(self._live[id(output)])

    def record_call(self, args: Any, kwargs: Any, output: Any) -> None:
        """Called for a call of a layer's function, with its output."""
        layer: Any = self._inside[-1] if self._inside else None
        given = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **(kwargs or {})}
        own = layer in self._derived and given.get("weight") is layer.weight and given.get("bias") is layer.bias
        if own and isinstance(output, Tensor):
            self._live[id(output)] = _LayerOutput(layer, weakref.ref(output), 0, [])
            self.outputs.append(self._live[id(output)])

    def record_read(self, arguments: Any) -> None:
        """Called with the inputs of an operator, or the outputs of the model."""
        for x in tree_leaves(arguments):
            if isinstance(x, Tensor):
                if (found := self.output_of(x)) is not None:
                    found.reads += 1
                self.shared.update(m for m in self._owners.get(_storage_id(x), ()) if m not in self._inside)

    def record_norm(self, x: Tensor, mean: Any, var: Any, weight: Any, bias: Any, training: bool, eps: float) -> None:
        """Called for a call of `batch_norm`; a call with values other than a norm's own cannot be folded."""
        norm: Any = next((m for m in reversed(self._inside) if m in self._norms and m.running_mean is mean), None)
        if norm is not None:
            self.uses[norm] += 1
            own = var is norm.running_var and weight is norm.weight and bias is norm.bias and eps == norm.eps
            if own and not training and (found := self.output_of(x)) is not None:
                found.norms.append(norm)

    def output_of(self, x: Any) -> _LayerOutput | None:
        """The record of a layer's output, None for another tensor; ids are reused, so the tensor itself is compared."""
        found = self._live.get(id(x))
        return found if found is not None and found.tensor() is x else None


def _storage_id(x: Tensor) -> int:
    """The identity of a tensor's memory, which its views and `.data` share."""
    return id(x) if x.layout is not torch.strided else x.untyped_storage()._cdata


class _ReadRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the reads of every operator, also inside scripted code."""

    def __init__(self, record: _RunRecord) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        self.record.record_read((args, kwargs))
        return function(*args, **(kwargs or {}))


def _arguments(args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call of `batch_norm` by name."""
    bound = NORMALIZING.bind(*args, **(kwargs or {}))
    bound.apply_defaults()
    return bound.arguments


class _NormRecorder(TorchFunctionMode):
    """Records which norm each call of `batch_norm` belongs to, and which layer each call of a layer's function."""

    def __init__(self, record: _RunRecord) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call."""
        if function is nn.functional.batch_norm:
            x, mean, var, weight, bias, training, _, eps = _arguments(args, kwargs).values()
            self.record.record_norm(x, mean, var, weight, bias, training, eps)
        output = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in FUNCTIONS:
            self.record.record_call(args, kwargs, output)
        return output


class _SkippedNorm(TorchFunctionMode):
    """Makes `batch_norm` with these statistics return its input."""

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


class FoldedNorm(nn.Module):
    """The operations of a derived norm class other than normalization, such as an activation.

    Attributes:
        norm: the module; its statistics are folded into the layer upstream of it.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Any:
        """The norm's own forward, without its normalization."""
        with _SkippedNorm(self.norm.running_mean):
            return self.norm(x)


def fold_norms(model: nn.Module, example: Any) -> tuple[str, ...]:
    """Folds every BatchNorm that directly follows a convolution or Linear, in place; an Identity replaces it, or, for a
    norm of a derived class, the other operations of that class.

    A run shows which ones: the normalized tensor is the layer's output, or that of the convolution inside a derived
    class, no other operator reads it, nothing keeps it, both modules run once, and no other code reads their weights or
    statistics. Modules with hooks are not folded: a hook would see other values, and weight_norm recomputes its weight.
    Nor are modules with a method, such as `forward`, that was set on the instance. The model is put into eval mode, the
    only one in which folding is exact.

    Args:
        model: float, not quantized.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as for `export`.

    Returns:
        The paths of the BatchNorms that were folded.

    Raises:
        TorchError: the model has tensors on the meta device, or fails on the example.
    """
    refuse_meta_tensors(model)
    model.eval()
    layers = [
        m
        for m in model.modules()
        if isinstance(m, LAYERS) and {"weight", "bias"} <= m._parameters.keys() and not _is_customized(m)
    ]
    without_bias: list[Any] = [m for m in layers if type(m) not in LAYERS and m.bias is None]
    norms: dict[nn.Module, str] = {
        m: n
        for n, m in model.named_modules()
        if isinstance(m, batchnorm._BatchNorm) and m.running_mean is not None and not _is_customized(m)
    }
    record = _RunRecord(layers, norms)
    hooks = [m.register_forward_pre_hook(record.on_begin) for m in (*layers, *norms)]
    hooks += [m.register_forward_hook(record.on_end, always_call=True) for m in (*layers, *norms)]
    try:
        for layer in without_bias:  # shows whether its forward uses the bias that folding gives it
            layer.bias = nn.Parameter(layer.weight.new_zeros(_channels(layer)), requires_grad=False)
        with torch.no_grad(), _NormRecorder(record), _ReadRecorder(record), isolated_run(model):
            output = run_example(model, example)
    finally:
        for hook in hooks:
            hook.remove()
        for layer in without_bias:
            layer.bias = None
    record.record_read(output)
    gc.collect()  # frees tensors that only reference cycles keep alive
    folded: dict[nn.Module, nn.Module] = {}
    for result in record.outputs:
        alone = result.reads == len(result.norms) == 1 and result.tensor() is None  # else the model returned or kept it
        both = {result.layer, *result.norms}
        if (
            alone
            and all(record.count[m] == 1 for m in both)
            and not both & record.shared
            and record.uses[result.norms[0]] == 1
        ):
            folded[result.norms[0]] = result.layer
    del output
    for norm, layer in folded.items():
        _fold(layer, norm)
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module in folded:
            above, _, name = path.rpartition(".")
            setattr(model.get_submodule(above), name, nn.Identity() if type(module) in NORMS else FoldedNorm(module))
    return tuple(norms[norm] for norm in folded)


def _channels(layer: Any) -> int:
    """The number of a layer's output channels."""
    return int(layer.weight.shape[1] * layer.groups if isinstance(layer, TRANSPOSED) else layer.weight.shape[0])


def _is_customized(module: nn.Module) -> bool:
    """Whether a module may behave unlike its class: it has hooks, or methods that were set on the instance."""
    patched = any(callable(getattr(type(module), name, None)) for name in vars(module))
    return patched or bool(module._forward_hooks or module._forward_pre_hooks)


def _fold(layer: Any, norm: Any) -> None:
    """Scales the layer's output channels and shifts its bias, in float32 at least; torch's own helper does not support
    groups of transposed convolutions."""

    def widened(x: Tensor) -> Tensor:
        return x.detach().to(torch.promote_types(x.dtype, torch.float32))

    factor = torch.rsqrt(widened(norm.running_var) + norm.eps)
    factor = factor if norm.weight is None else factor * widened(norm.weight)
    shift = 0 if norm.bias is None else widened(norm.bias)
    weight = widened(layer.weight)
    if isinstance(layer, TRANSPOSED):
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])  # [groups, in / groups, out / groups, ...]
        by_output = factor.reshape(layer.groups, 1, -1, *[1] * (weight.dim() - 2))
        scaled = (grouped * by_output).reshape(weight.shape)
    else:
        scaled = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    bias = torch.zeros_like(factor) if layer.bias is None else widened(layer.bias)
    shifted = (bias - widened(norm.running_mean)) * factor + shift
    frozen = not (layer.weight if layer.bias is None else layer.bias).requires_grad
    layer.bias = nn.Parameter(shifted.to(layer.weight.dtype), not frozen)
    layer.weight = nn.Parameter(scaled.to(layer.weight.dtype), layer.weight.requires_grad)
