"""`fold_norms`: moves BatchNorms into the convolutions and Linears in front of them.

Beside a quantized weight no exporter and no engine folds them any more, and the Q/DQ of the weight would round what is
not the final weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class _Reads(TorchFunctionMode):
    """Counts how often each tensor is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.kept: list[Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """One call."""
        result = function(*args, **(kwargs or {}))
        if any(isinstance(x, Tensor) for x in tree_leaves(result)):  # else it asked for a shape or the like
            read = [x for x in tree_leaves((args, dict(kwargs or {}))) if isinstance(x, Tensor)]
            self.reads.update({id(x): 1 for x in read})
            self.kept += read  # or another tensor could get its id
        return result


def fold_norms(model: nn.Module, example: Any) -> tuple[str, ...]:
    """Folds every BatchNorm that directly follows a convolution or Linear, in place, and leaves an Identity.

    Which does is seen in a run: the normalized tensor is the layer's result, nothing else reads it, and both modules
    run once. The model goes to eval mode, for which alone folding is exact.

    Args:
        example: an input, or a tuple of inputs.

    Returns:
        The paths of the BatchNorms that were folded.
    """
    model.eval()
    layers = {m: n for n, m in model.named_modules() if isinstance(m, (*PLAIN, *TRANSPOSED, nn.Linear))}
    norms: dict[nn.Module, str] = {
        m: n for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.track_running_stats
    }
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    found: list[tuple[nn.Module, nn.Module, int]] = []
    runs: Counter[nn.Module] = Counter()

    def left(module: nn.Module, args: Any, output: Any) -> None:
        runs[module] += 1
        if module in layers:
            made[id(output)] = module, output
        elif args and id(args[0]) in made:
            found.append((made[id(args[0])][0], module, id(args[0])))

    handles = [m.register_forward_hook(left) for m in (*layers, *norms)]
    counter = _Reads()
    try:
        with torch.no_grad(), counter:
            model(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for handle in handles:
            handle.remove()
    folded = [n for layer, n, x in found if counter.reads[x] == 1 and runs[layer] == runs[n] == 1]
    for layer, norm, _ in found:
        if norm in folded:
            _fold(layer, norm)
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if any(module is norm for norm in folded):
            above, _, name = path.rpartition(".")
            setattr(model.get_submodule(above), name, nn.Identity())
    return tuple(norms[norm] for norm in folded)


def _fold(layer: Any, norm: Any) -> None:
    """Scales the layer's output channels and shifts its bias; torch's own helper knows no groups of transposed ones."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    factor = factor if norm.weight is None else factor * norm.weight.detach()
    shift = 0 if norm.bias is None else norm.bias.detach()
    weight = layer.weight.detach()
    if isinstance(layer, TRANSPOSED):
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])  # [groups, in / groups, out / groups, ...]
        by_output = factor.reshape(layer.groups, 1, -1, *[1] * (weight.dim() - 2))
        scaled = (grouped * by_output).reshape(weight.shape)
    else:
        scaled = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    bias = torch.zeros_like(factor) if layer.bias is None else layer.bias.detach()
    layer.weight = nn.Parameter(scaled.to(weight.dtype))
    layer.bias = nn.Parameter(((bias - norm.running_mean) * factor + shift).to(weight.dtype))
