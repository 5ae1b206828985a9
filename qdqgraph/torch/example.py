"""What an example input means: the arguments of a model's forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments.

    Args:
        example: one argument; a tuple of arguments; or a mapping of keyword arguments by name. A forward that takes one
            mapping gets it in a tuple of one.
    """
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def run(model: nn.Module, example: Any) -> Any:
    """The model's answer to an example."""
    args, kwargs = arguments(example)
    return model(*args, **kwargs)


def mapped(function: Callable[[Tensor], Tensor], example: Any) -> Any:
    """The example with every tensor in it changed."""
    return tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, example)
