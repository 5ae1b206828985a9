"""Which calls compute only from parameters, buffers and constants: an exporter may fold them, unless a pair separates
them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...errors import TorchError
from ..quantizer.quantizer import isolated_run
from .example import example_tensors, run_example
from .functional import ENTRY, Call, Place
from .scopes import Scope, Scopes, attach, detach


class _InputTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Marks the memory of every tensor that is computed from some tensors."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept = list(tensors)  # freed memory would be used again
        self._marked = {_memory(x) for x in tensors}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        output = function(*args, **(kwargs or {}))
        if any(self.marks(x) for x in tree_leaves((args, kwargs))):
            found = [x for x in tree_leaves(output) if isinstance(x, Tensor)]
            self._kept += found
            self._marked.update(map(_memory, found))
        return output

    def marks(self, x: Any) -> bool:
        """Whether a value is a tensor that is computed from them."""
        return isinstance(x, Tensor) and _memory(x) in self._marked


def _memory(x: Tensor) -> int:
    return id(x) if x.layout is not torch.strided else x.untyped_storage()._cdata


def constant_calls(
    model: nn.Module, example: Any, at: Callable[[Place], Callable[[Tensor], Tensor] | None]
) -> set[tuple[str, Call]]:
    """The calls none of whose operands are computed from the example, each with the path of its module.

    Args:
        model: in the mode to run it in; the hooks of its scopes are removed.
        at: the quantizer that a place has already.
    """
    trace = _InputTrace(example_tensors(example))
    seen: dict[tuple[str, Call], bool] = {}

    def quantizer_of(scope: Scope, call: Call, operand: int) -> Callable[[Tensor], Tensor]:
        own = at(Place(scope.path, call, operand))

        def observe(x: Tensor) -> Tensor:
            key = scope.path, call
            seen[key] = seen.get(key, False) or trace.marks(x)
            return x if own is None else own(x)

        return observe

    attach(model, Scopes(quantizer_of, lambda scope, site: True))
    try:
        with isolated_run(model), torch.no_grad(), trace:
            run_example(model, example)
    except TorchError:
        return set()  # the export of the probe fails too, and says why
    finally:
        detach(model)
    return {key for key, computed in seen.items() if not computed and key[1] != ENTRY}
