"""Models whose modules cannot be changed: wrapped for several devices, compiled or scripted."""

from __future__ import annotations

import torch
from torch import nn

from ...errors import TorchError


def refuse_wrapped(model: nn.Module) -> None:
    """Refuses a model that no exporter supports, with what to pass instead.

    Raises:
        TorchError: it is wrapped for several devices, scripted, or compiled, or a part of it is compiled.
    """
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TorchError(
            f"the model is wrapped in {type(model).__name__}, which no exporter supports: pass its .module"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise TorchError(
            "the model is scripted or traced (torch.jit): nothing inside it can be changed; pass the original module"
        )
    for path, module in model.named_modules():
        if "_orig_mod" in module._modules:
            raise TorchError(
                f"{path or 'the model'} is compiled (torch.compile), which hides its calls: pass the original "
                "module, ._orig_mod, and compile it afterwards"
            )
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise TorchError(
                f"{path or 'the model'} is compiled (its compile method), which hides its calls: compile it afterwards"
            )
