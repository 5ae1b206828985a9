"""Digests of a model's state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def state_digest(state: Mapping[str, Any], *, amax: bool = True) -> str:
    """A digest of a state, 16 hexadecimal digits: equal for equal weights, buffers and amax, bit for bit.

    Args:
        state: a model's `state_dict()`.
        amax: whether amax is part of the digest.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, Tensor) or (not amax and name.endswith("._amax")):
            continue  # a module's extra state, or amax
        # A copy: contiguous() does not change the strides of 0 that expand() gives to a tensor of one element.
        data = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8)
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(data.numpy().tobytes())
    return found.hexdigest()[:16]
