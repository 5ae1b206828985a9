"""What an example input means: the arguments of a model's forward, and their tensors one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_leaves, tree_map, tree_unflatten


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


def mapped(function: Callable[[Tensor], Any], example: Any) -> Any:
    """The example with every tensor in it changed."""
    return tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, example)


def tensors(example: Any) -> list[Tensor]:
    """The tensors in an example, in the order in which a graph takes them."""
    return [x for x in tree_leaves(arguments(example)) if isinstance(x, Tensor)]


def names(model: nn.Module, example: Any) -> list[str]:
    """A name for each tensor: the parameter's, and what leads to the tensor inside of it, as `batch_image`."""
    args, kwargs = arguments(example)
    known = [n for n, p in inspect.signature(model.forward).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    given = {(known[i] if i < len(known) else f"input_{i}"): x for i, x in enumerate(args)} | kwargs
    found = []
    for path, x in tree_flatten_with_path(given)[0]:
        if isinstance(x, Tensor):
            parts = [getattr(key, "key", getattr(key, "idx", getattr(key, "name", ""))) for key in path]
            found.append("_".join(str(part) for part in parts))
    return found


@contextmanager
def flat(model: nn.Module, example: Any) -> Iterator[tuple[Any, ...]]:
    """The tensors as the model's only arguments, while its forward takes them so: torch's tracer knows neither keyword
    arguments nor mappings, going in or coming out."""
    args, kwargs = arguments(example)
    leaves, spec = tree_flatten((args, kwargs))
    forward, own = model.forward, "forward" in vars(model)

    def taking(*given: Tensor) -> Any:
        left = iter(given)
        filled = [next(left) if isinstance(x, Tensor) else x for x in leaves]
        args, kwargs = tree_unflatten(filled, spec)
        output = forward(*args, **kwargs)
        plain = isinstance(output, Tensor | list | tuple)
        return output if plain else tuple(x for x in tree_leaves(output) if isinstance(x, Tensor))

    model.forward = taking
    try:
        yield tuple(x for x in leaves if isinstance(x, Tensor))
    finally:
        if own:
            model.forward = forward
        else:
            del model.forward
