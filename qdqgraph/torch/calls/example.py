"""What an example input means: the arguments of a model's forward, and their tensors one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_leaves, tree_map, tree_unflatten

from ...errors import TorchError


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments.

    Args:
        example: one argument; a tuple of arguments; or a mapping of keyword arguments by name. A forward that takes one
            mapping gets it in a tuple of one.

    Raises:
        TorchError: it holds no tensor, or an array of NumPy.
    """
    leaves = tree_leaves(example)
    if any(isinstance(x, np.ndarray) for x in leaves):
        raise TorchError("the example holds an array of NumPy: give tensors, torch.from_numpy(x)")
    if not any(isinstance(x, Tensor) for x in leaves):
        raise TorchError(
            f"the example, {type(example).__name__}, holds no tensor: give an input, a tuple of inputs, or a mapping "
            "of keyword arguments, as the model is exported with"
        )
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def run(model: nn.Module, example: Any) -> Any:
    """The model's answer to an example.

    Raises:
        TorchError: the model fails on it.
    """
    args, kwargs = arguments(example)
    return answer(model, "the example", *args, **kwargs)


def answer(model: nn.Module, what: str, *args: Any, **kwargs: Any) -> Any:
    """The model's answer.

    Args:
        what: names the arguments in a message.

    Raises:
        TorchError: the model fails on them.
    """
    try:
        return model(*args, **kwargs)
    except TorchError:
        raise
    except Exception as error:  # whatever a forward raises
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise TorchError(f"the model fails on {what}: {type(error).__name__}: {reason}") from error


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
