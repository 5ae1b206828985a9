"""Quantizers while they train: they compute in float32 under autocast, and their amax can be trained as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..quantizer.quantizer import Quantizer, quantizers

SMALLEST = 1e-3
"""The smallest fraction of its first value that a trained amax may have: a step may not make it zero or negative."""


class TrainedQuantizer(Quantizer):
    """A quantizer within `training_quantizers`. Its output is that of `Quantizer`, bit for bit, in float32."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[...] → the same shape and type."""
        if self._disabled or not inputs.is_floating_point():
            return super().forward(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            x = inputs if inputs.dtype == torch.float64 else inputs.float()
            amax = self._parameters.get("_amax")
            if amax is None:
                return super().forward(x).to(inputs.dtype)
            with torch.no_grad():
                rounded = super().forward(x)
            function: Any = _LearnedStep  # torch leaves `apply` untyped
            output: Tensor = function.apply(x, amax, rounded, self.bound, 0 if self._unsigned else -self.bound)
            return output.to(inputs.dtype)


class _LearnedStep(torch.autograd.Function):
    """The gradients of LSQ for a quantizer's input and for its step, here amax / bound.

    Source: Esser et al., Learned Step Size Quantization, ICLR 2020, equations 3 to 5 and section 2.2,
    https://arxiv.org/abs/1902.08153. The gradient of the step is divided by sqrt(N · bound), where N is the number of
    values that share it. amax is bound steps, so its gradient is that of the step times bound: an update in proportion
    to its gradient then changes the step as in the paper.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, amax: Tensor, rounded: Tensor, upper: int, lower: int) -> Tensor:
        """The values that the quantizer computed."""
        ctx.save_for_backward(x, amax)
        ctx.bounds = upper, lower
        return rounded.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of `x`, [...], and of `amax`, of its own shape."""
        (x, amax), (upper, lower), (grad,) = ctx.saved_tensors, ctx.bounds, grad_outputs
        step = amax / upper
        used = step > 0
        steps = x / torch.where(used, step, torch.ones_like(step))
        inside = (steps >= lower) & (steps <= upper)
        slope = torch.where(inside, steps.round() - steps, steps.clamp(lower, upper)) * used
        own = (grad * slope).sum_to_size(amax.shape) * upper
        shared = x.numel() / max(amax.numel(), 1)
        return grad * inside, own / (shared * upper) ** 0.5, None, None, None


@lru_cache
def _trained_class(kind: type[Quantizer]) -> type[Quantizer]:
    """The class of a library's quantizers while they train."""
    return type(f"Trained{kind.__name__}", (TrainedQuantizer, kind), {})


@contextmanager
def training_quantizers(model: nn.Module, *, learn_amax: bool) -> Iterator[tuple[nn.Parameter, ...]]:
    """Lets a model's quantizers train until the block ends; yields the amax that are parameters meanwhile.

    Args:
        learn_amax: whether amax is trained; that of quantizers that are disabled or have none is not. The names in the
            model's state are the same.
    """
    found = [(q, type(q)) for q in quantizers(model).values()]
    learned: list[tuple[Quantizer, nn.Parameter]] = []
    for quantizer, kind in found:
        quantizer.__class__ = _trained_class(kind)  # type: ignore[arg-type]
        if learn_amax and not quantizer._disabled and quantizer.amax is not None:
            parameter = nn.Parameter(quantizer.amax.detach().clone())
            del quantizer._buffers["_amax"]
            quantizer.register_parameter("_amax", parameter)
            learned.append((quantizer, parameter))
    try:
        yield tuple(parameter for _, parameter in learned)
    finally:
        for quantizer, _ in learned:
            amax = quantizer._parameters.pop("_amax")
            assert amax is not None
            quantizer.register_buffer("_amax", amax.detach())
        for quantizer, kind in found:
            quantizer.__class__ = kind


def keep_positive(amax: tuple[nn.Parameter, ...], first: tuple[Tensor, ...]) -> None:
    """Limits amax to at least `SMALLEST` times their first values."""
    with torch.no_grad():
        for parameter, value in zip(amax, first, strict=True):
            parameter.copy_(torch.maximum(parameter, value * SMALLEST))
