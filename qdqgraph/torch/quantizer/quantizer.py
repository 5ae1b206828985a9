"""Finds the quantizers of a model, whichever backend made them, and runs a model without side effects.

Instances of the libraries' own classes get the classes of their backends (`convert_quantizers`), so models that another
script quantized work as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

from ...errors import TorchError
from .backend import TOOLKIT, Backend, find_backend, loaded_backends
from .base import Quantizer
from .provenance import provenance
from .toolkit import (
    HistogramCalibrator,
    MaxCalibrator,
    QuantDescriptor,
    new_quantizer,
    qnn,
    quant_modules,
    quant_rnn,
    silence_library_log,
)


def close_interrupted_scopes(model: nn.Module) -> None:
    """Closes the scopes that an interrupted forward left open in this thread (see `scopes`)."""
    for module in model.modules():
        for hook in tuple(module._forward_pre_hooks.values()):
            if (close := getattr(hook, "close_interrupted", None)) is not None:
                close()


@contextmanager
def isolated_run(model: nn.Module) -> Iterator[None]:
    """A block that runs a model: no scope is open after it, and torch's function modes of this thread are the same as
    before. An interrupt can leave a mode of ours on top of the stack; a mode that was entered below it then removed
    ours instead of itself."""
    close_interrupted_scopes(model)
    before: list[Any] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        close_interrupted_scopes(model)
        if _get_current_function_mode_stack() != before:  # type: ignore[no-untyped-call]
            while _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
                _pop_mode()  # type: ignore[no-untyped-call]
            for mode in before:
                _push_mode(mode)  # type: ignore[no-untyped-call]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A block in which a model is in eval mode; its modules' modes are restored after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def convert_quantizers(model: nn.Module) -> None:
    """Gives the libraries' own quantizers in a model the classes of their backends, in place, and closes the scopes of
    an interrupted forward."""
    close_interrupted_scopes(model)
    backends = loaded_backends()
    for module in model.modules():
        any(backend.adopt(module) for backend in backends)


def quantizer_paths(model: nn.Module) -> dict[str, Quantizer]:
    """Every path of every quantizer: a shared one has several."""
    convert_quantizers(model)
    return {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, Quantizer)}


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """The model's quantizers, each by the first of its paths."""
    convert_quantizers(model)
    return {n: m for n, m in model.named_modules() if isinstance(m, Quantizer)}


def refuse_meta_tensors(model: nn.Module) -> None:
    """Refuses a model that has tensors without values.

    Raises:
        TorchError: a parameter or a buffer is on the meta device.
    """
    every = (*model.named_parameters(), *model.named_buffers())
    found = [name for name, x in every if x.is_meta]
    if found:
        more = f" and {len(found) - 1} more are" if len(found) > 1 else " is"
        raise TorchError(
            f"{found[0]}{more} on the meta device, which has no values: load the model's weights first, after "
            "model.to_empty(device='cpu') or with load_state_dict(..., assign=True)"
        )


def backend_of(model: nn.Module) -> Backend:
    """The backend of most of a model's quantizers; the default one if it has none."""
    count = Counter(q.library.name for q in quantizers(model).values())
    return find_backend(count.most_common(1)[0][0] if count else TOOLKIT)


def configured_quantizer(model: nn.Module) -> Quantizer:
    """A new quantizer of an activation, per tensor, of the backend of a model and as the configuration that it was
    quantized with defines for inputs."""
    spec = (provenance(model).config or {}).get("input", {})
    made = backend_of(model).new(spec.get("num_bits", 8), None, spec.get("unsigned", False))
    made.method, made.percentile = spec.get("method", ""), spec.get("percentile")
    return made


def parent_module(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The parent of the module at a path, and the module's name there."""
    above, _, name = path.rpartition(".")
    return model.get_submodule(above), name


__all__ = [
    "HistogramCalibrator",
    "MaxCalibrator",
    "QuantDescriptor",
    "Quantizer",
    "backend_of",
    "close_interrupted_scopes",
    "configured_quantizer",
    "convert_quantizers",
    "evaluating",
    "isolated_run",
    "new_quantizer",
    "parent_module",
    "qnn",
    "quant_modules",
    "quant_rnn",
    "quantizer_paths",
    "quantizers",
    "refuse_meta_tensors",
    "silence_library_log",
]
