"""torch's fast paths, which read weights without their quantizers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .base import Quantizer


def disable_fast_paths(model: nn.Module) -> None:
    """Makes torch's transformer layers call their Linears: their fast path in eval mode reads the weights without the
    quantizers."""
    for module in model.modules():
        if any(isinstance(m, Quantizer) for m in module.modules()):
            if isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0  # as for an activation that the fast path does not support
            elif isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False


@contextmanager
def without_fast_attention() -> Iterator[None]:
    """A block in which no layer runs as one operator of torch, which ONNX does not have."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
