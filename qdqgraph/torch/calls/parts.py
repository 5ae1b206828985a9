"""Functions of torch that an exporter writes as several operators, decomposed into one call each.

A quantizer between two of those operators has no place in the single call. Each function here computes what
torch's function computes, by calls that `scopes` intercepts; their site is that of the call that they replace.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Parts = Callable[[], Any]
"""Computes a call from its parts."""


def has_parts(function: Callable[..., Any]) -> bool:
    """Whether a function can be computed from its parts, depending on its arguments."""
    return getattr(function, "__name__", "") in PARTS


def parts_of(function: Callable[..., Any], args: Any, kwargs: Any) -> Parts | None:
    """The function that computes a call from its parts; None if it has none, or for unsupported arguments."""
    decompose = PARTS.get(getattr(function, "__name__", ""))
    try:
        return None if decompose is None else decompose(*args, **kwargs)
    except TypeError:
        return None


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Parts:
    """scaled_dot_product_attention as torch's documentation defines it: [..., L, E], [..., S, E], [..., S, V] →
    [..., L, V]. A fully masked row becomes the average of the values.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """

    def run() -> Tensor:
        k, v = key, value
        if enable_gqa:
            heads = int(query.size(-3))
            k, v = (x.repeat_interleave(heads // int(x.size(-3)), -3) for x in (k, v))
        weights = torch.matmul(query, k.transpose(-2, -1)) * (int(query.size(-1)) ** -0.5 if scale is None else scale)
        mask = attn_mask
        if is_causal:
            mask = torch.ones(int(query.size(-2)), int(k.size(-2)), dtype=torch.bool, device=query.device).tril()
        if mask is not None and mask.dtype == torch.bool:
            weights = weights.masked_fill(mask.logical_not(), torch.finfo(weights.dtype).min)
        elif mask is not None:
            weights = weights + mask
        weights = torch.softmax(weights, -1)
        if dropout_p:
            weights = torch.dropout(weights, dropout_p, True)
        return torch.matmul(weights, v)

    return run


def _baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Parts:
    def run() -> Tensor:
        product = torch.bmm(batch1, batch2)
        product = product if alpha == 1 else product * alpha
        added = input if beta == 1 else input * beta
        return product if beta == 0 else torch.add(product, added)

    return run


def _glu(input: Tensor, dim: int = -1) -> Parts:
    def run() -> Tensor:
        values, gates = input.chunk(2, dim)
        return torch.mul(values, torch.sigmoid(gates))

    return run


def _roll(input: Tensor, shifts: Any, dims: Any = ()) -> Parts | None:
    """One axis after the other."""
    if not isinstance(dims, tuple | list) or len(dims) < 2:
        return None

    def run() -> Tensor:
        x = input
        for shift, dim in zip(shifts, dims, strict=True):
            x = torch.roll(x, shift, dim)
        return x

    return run


def _var(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Parts:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    axes = list(range(input.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    less = float(unbiased) if correction is None else float(correction)

    def run() -> Tensor:
        centered = torch.sub(input, torch.mean(input, axes, keepdim=True))
        count = math.prod(int(input.size(axis)) for axis in axes)
        return torch.mean(torch.mul(centered, centered), axes, keepdim=keepdim) * (count / (count - less))

    return run


def _std(*args: Any, **kwargs: Any) -> Parts:
    variance = _var(*args, **kwargs)
    return lambda: torch.sqrt(variance())


def _gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Parts:
    """The gates are in torch's order: reset, update, new."""

    def run() -> Tensor:
        reset, update, new = functional.linear(input, w_ih, b_ih).chunk(3, -1)
        old_reset, old_update, old_new = functional.linear(hx, w_hh, b_hh).chunk(3, -1)
        reset, update = torch.sigmoid(torch.add(reset, old_reset)), torch.sigmoid(torch.add(update, old_update))
        new = torch.tanh(torch.add(new, torch.mul(reset, old_new)))
        return torch.add(new, torch.mul(update, torch.sub(hx, new)))

    return run


PARTS: dict[str, Callable[..., Parts | None]] = {
    "scaled_dot_product_attention": _attention,
    "baddbmm": _baddbmm,
    "glu": _glu,
    "roll": _roll,
    "var": _var,
    "std": _std,
    "gru_cell": _gru_cell,
}
"""By the functions' names."""
