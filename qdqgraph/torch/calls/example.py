"""Example inputs: the arguments of a model's forward, and their tensors one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_leaves, tree_map, tree_unflatten

from ...errors import TorchError


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments.

    Args:
        example: one argument; a tuple of arguments; or a mapping of keyword arguments by name. For a forward that takes
            one mapping: a tuple that contains it.

    Raises:
        TorchError: it contains no tensor, or a NumPy array.
    """
    leaves = tree_leaves(example)
    if any(isinstance(x, np.ndarray) for x in leaves):
        raise TorchError("the example contains a NumPy array: pass tensors, torch.from_numpy(x)")
    if not any(isinstance(x, Tensor) for x in leaves):
        raise TorchError(
            f"the example, {type(example).__name__}, contains no tensor: pass an input, a tuple of inputs, or a "
            "mapping of keyword arguments"
        )
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def run_example(model: nn.Module, example: Any) -> Any:
    """The model's output for an example.

    Raises:
        TorchError: the model fails on it.
    """
    args, kwargs = arguments(example)
    return call_model(model, "the example", *args, **kwargs)


def call_model(model: Callable[..., Any], what: str, *args: Any, **kwargs: Any) -> Any:
    """The model's output.

    Args:
        what: the name of the arguments in messages.

    Raises:
        TorchError: the model fails on them; a TorchError of its own is passed on.
    """
    try:
        return model(*args, **kwargs)
    except TorchError:
        raise
    except Exception as error:  # whatever a forward raises
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise TorchError(f"the model fails on {what}: {type(error).__name__}: {reason}") from error


def map_tensors(function: Callable[[Tensor], Any], example: Any) -> Any:
    """The example with the function applied to every tensor in it."""
    return tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, example)


def example_tensors(example: Any) -> list[Tensor]:
    """The tensors in an example, in the order of the graph's inputs."""
    return [x for x in tree_leaves(arguments(example)) if isinstance(x, Tensor)]


def tensor_names(model: nn.Module, example: Any) -> list[str]:
    """A name for each tensor of an example; see `named_tensors`."""
    return [name for name, _ in named_tensors(model, *arguments(example))]


def named_tensors(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors in a call's arguments, each with a name: the parameter, and the keys that lead to the tensor inside
    it, such as `batch_image`."""
    known = [n for n, p in inspect.signature(model.forward).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    given = {(known[i] if i < len(known) else f"input_{i}"): x for i, x in enumerate(args)} | dict(kwargs)
    found = []
    for path, x in tree_flatten_with_path(given)[0]:
        if isinstance(x, Tensor):
            parts = [getattr(key, "key", getattr(key, "idx", getattr(key, "name", ""))) for key in path]
            found.append(("_".join(str(part) for part in parts), x))
    return found


def output_tensors(output: Any) -> tuple[Tensor, ...]:
    """The tensors in what a model returns, in the order of the graph's outputs: of mappings, lists, tuples, dataclasses
    and classes that are registered with torch's pytree. Numbers, text and None are no outputs.

    Raises:
        TorchError: it contains an object of another class, whose tensors cannot be found, or no tensor.
    """
    found = tuple(_tensors(output))
    if not found:
        raise TorchError("the model returns no tensor")
    return found


def _tensors(output: Any) -> Iterator[Tensor]:
    for x in tree_leaves(output):
        if isinstance(x, Tensor):
            yield x
        elif is_dataclass(x) and not isinstance(x, type):
            yield from _tensors([getattr(x, f.name) for f in fields(x)])
        elif x is not None and not isinstance(x, str | int | float | complex):
            raise TorchError(
                f"the model returns a {type(x).__name__}, whose tensors cannot be found: return tensors, "
                "dictionaries, lists, tuples or dataclasses of them"
            )


@contextmanager
def flattened_outputs(model: nn.Module) -> Iterator[None]:
    """Lets the model's forward return a tuple of its tensors if it returns an object that torch.export does not know,
    until the block ends."""
    forward, own = model.forward, "forward" in vars(model)

    @wraps(forward)
    def flat_forward(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        known = all(x is None or isinstance(x, Tensor) for x in tree_leaves(output))
        return output if known else output_tensors(output)

    model.forward = flat_forward
    try:
        yield
    finally:
        if own:
            model.forward = forward
        else:
            del model.forward


@contextmanager
def flattened_arguments(model: nn.Module, example: Any) -> Iterator[tuple[Any, ...]]:
    """Lets the model's forward accept only the example's tensors, which are yielded, and return only tensors, until the
    block ends: torch's tracer supports neither keyword arguments nor mappings."""
    args, kwargs = arguments(example)
    leaves, spec = tree_flatten((args, kwargs))
    forward, own = model.forward, "forward" in vars(model)

    def flat_forward(*tensors: Tensor) -> Any:
        left = iter(tensors)
        args, kwargs = tree_unflatten([next(left) if isinstance(x, Tensor) else x for x in leaves], spec)
        output = forward(*args, **kwargs)
        return output if isinstance(output, Tensor) else output_tensors(output)

    model.forward = flat_forward
    try:
        yield tuple(x for x in leaves if isinstance(x, Tensor))
    finally:
        if own:
            model.forward = forward
        else:
            del model.forward
