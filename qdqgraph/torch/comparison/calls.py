"""The calls of a model on a loader's batches, and the inputs of the ONNX file for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ...errors import TorchError
from ...model.runtime import Feed
from ..calls.example import call_model, map_tensors, named_tensors, tensor_names
from ..quantizer.fast_paths import without_fast_attention
from ..quantizer.quantizer import evaluating, isolated_run


@dataclass(frozen=True)
class Call:
    """One call of the model.

    Attributes:
        args, kwargs: the model's arguments.
        feed: the inputs of the file, by name.
        outputs: the tensors in the model's output.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    feed: Feed
    outputs: tuple[NDArray[Any], ...]

    def repeat(self, model: nn.Module) -> tuple[NDArray[Any], ...]:
        """Calls the model again; returns the tensors in its output."""
        return output_arrays(call_model(model, "a batch that it ran on before", *self.args, **self.kwargs))


class UnfitError(TorchError):
    """A batch has another shape than the file's inputs."""


@contextmanager
def quiet_run(model: nn.Module) -> Iterator[None]:
    """A block that runs the model as it is exported: in eval mode, on the CPU, without gradients, its attention as
    separate operators. The model is the same afterwards, on its own devices."""
    with on_cpu(model), evaluating(model), isolated_run(model), without_fast_attention(), torch.no_grad():
        yield


@contextmanager
def on_cpu(model: nn.Module) -> Iterator[None]:
    """Gives every parameter and buffer a copy on the CPU, unless it is there, until the block ends; the tensors on
    other devices stay allocated and are put back."""
    parameters = [(p, p.data) for p in model.parameters() if p.device.type != "cpu"]
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.device.type != "cpu"
    ]
    try:
        for parameter, value in parameters:
            parameter.data = value.cpu()
        for module, name, buffer in buffers:
            module._buffers[name] = buffer.cpu()
        yield
    finally:
        for parameter, value in parameters:
            parameter.data = value
        for module, name, buffer in buffers:
            module._buffers[name] = buffer


def calls_on(
    model: nn.Module,
    file: onnx.ModelProto,
    example: Any,
    batches: Iterable[Any],
    feed: Callable[[nn.Module, Any], Any],
) -> Iterator[Call | UnfitError]:
    """Runs the model on batches inside `quiet_run`; yields each call, or why the file cannot run on the batch.

    Args:
        example: the example that the file was exported with.
        feed: runs the model on a batch.

    Raises:
        TorchError: `feed` does not call the model, or the model fails.
    """
    inputs = Inputs(model, file, example)
    for batch in batches:
        args, kwargs, output = _recorded(model, batch, feed)
        try:
            args, kwargs, shortened = inputs.fitted(args, kwargs)
        except UnfitError as error:
            yield error
            continue
        if shortened:
            output = call_model(model, "the first part of a batch", *args, **kwargs)
        yield Call(args, kwargs, inputs.feed(args, kwargs), output_arrays(output))


def _recorded(
    model: nn.Module, batch: Any, feed: Callable[[nn.Module, Any], Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any], Any]:
    """Arguments and output of the first call of the model on a batch, on the CPU.

    Raises:
        TorchError: the model is not called.
    """
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    outputs: list[Any] = []

    def before(_: nn.Module, args: Any, kwargs: Any) -> Any:
        args, kwargs = (map_tensors(lambda x: x.cpu(), given) for given in (args, kwargs))
        found.append((args, kwargs))
        return args, kwargs

    handles = [
        model.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
        model.register_forward_hook(lambda _, args, output: outputs.append(output)),
    ]
    try:
        feed(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if not outputs:
        raise TorchError("feed does not call the model itself, so its inputs are not known")
    return *found[0], outputs[0]


class Inputs:
    """How the arguments of a call become the inputs of a file.

    Raises:
        TorchError: the file has other inputs than the example.
    """

    def __init__(self, model: nn.Module, file: onnx.ModelProto, example: Any) -> None:
        constants = {tensor.name for tensor in file.graph.initializer}
        self._model = model
        self._values = [value for value in file.graph.input if value.name not in constants]
        self._order = tensor_names(model, example)
        names = [value.name for value in self._values]
        if len(names) != len(self._order):
            if not set(names) <= set(self._order):
                raise TorchError(f"the file has the inputs {', '.join(names)}, the example {', '.join(self._order)}")
            self._order = names

    def fitted(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any], bool]:
        """The arguments, with only the first rows of a batch that is larger than the file's, and whether it is.

        Raises:
            UnfitError: a shape is another one.
        """
        rows, wanted = 0, 0
        for value, x in zip(self._values, self._tensors(args, kwargs), strict=True):
            dims = [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
            fits = len(dims) == x.dim() and all(d in (None, n) for d, n in zip(dims[1:], x.shape[1:], strict=True))
            if fits and dims and dims[0] is not None and x.shape[0] > dims[0]:
                rows, wanted = x.shape[0], dims[0]
            elif not fits or (dims and dims[0] not in (None, x.shape[0])):
                raise UnfitError(f"{value.name} is {['?' if d is None else d for d in dims]}, a batch {[*x.shape]}")
        if not wanted:
            return args, kwargs, False

        def first_rows(x: Tensor) -> Tensor:
            return x[:wanted] if x.dim() and x.shape[0] == rows else x

        return map_tensors(first_rows, args), map_tensors(first_rows, dict(kwargs)), True

    def feed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Feed:
        """The inputs of the file, by name."""
        found = zip(self._values, self._tensors(args, kwargs), strict=True)
        return {value.name: array_of(x) for value, x in found}

    def _tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        found = named_tensors(self._model, args, kwargs)
        by_name = dict(found)
        if set(self._order) <= by_name.keys():
            return [by_name[name] for name in self._order]
        if len(found) != len(self._order):
            given = ", ".join(by_name)
            raise UnfitError(f"a batch gives the model {given}, the example {', '.join(self._order)}")
        return [x for _, x in found]


def output_arrays(output: Any) -> tuple[NDArray[Any], ...]:
    """The tensors in an output, in the order of the file's outputs."""
    return tuple(array_of(x) for x in tree_leaves(output) if isinstance(x, Tensor))


def array_of(x: Tensor) -> NDArray[Any]:
    """A tensor as an array; BF16 as float32, which NumPy lacks."""
    x = x.detach().cpu()
    found: NDArray[Any] = (x.float() if x.dtype is torch.bfloat16 else x).numpy()
    return found
