"""Functional operators: the calls of torch's functions, and which of their operands can be quantized.

A residual add, `torch.cat`, `F.interpolate` or a functional MaxPool has no module to contain a quantizer. A call is
identified by the module whose forward runs (`scopes`), its site in the source (`source`), and how often that site ran
before in this forward. So a branch that does not run does not change the identity of other calls, and the
iterations of a loop are different calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

TWO_OPERANDS = (
    *("add", "mul", "sub", "div", "matmul", "bmm", "maximum", "minimum"),
    *("multiply", "subtract", "divide", "true_divide", "mm", "pow", "max", "min"),
)
"""Operators of two tensors."""
OPERAND_LISTS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack")
"""Operators of a list of tensors."""
ONE_OPERAND = (
    *("interpolate", "upsample", "max_pool1d", "max_pool2d", "max_pool3d", "mean"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "getitem", "narrow", "index_select", "select"),
    *("transpose", "permute", "swapaxes", "movedim", "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze"),
    *("pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat", "expand", "tile", "roll", "contiguous"),
    *("unfold", "fold", "flip", "t", "ravel", "swapdims", "moveaxis", "hsplit", "vsplit", "dsplit", "unsafe_chunk"),
    *("view_as", "reshape_as", "expand_as", "broadcast_to", "repeat_interleave", "diagonal"),
    *("relu", "relu6", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "leaky_relu", "elu", "mish"),
    *("softplus", "clamp", "hardtanh", "batch_norm", "neg", "abs", "exp", "sqrt"),
    *("prelu", "selu", "celu", "logsigmoid", "softsign", "threshold", "clip", "negative", "absolute", "erf", "square"),
)
"""Operators of one data tensor; the other arguments are parameters."""
CALLED = (*TWO_OPERANDS, *OPERAND_LISTS, *ONE_OPERAND)
"""All operators whose operands can be quantized."""
RESHAPING = ("squeeze", "swapaxes", "transpose", "unsqueeze")
"""Those whose in-place variant changes the tensor's shape: the tensor cannot store a result of another shape."""


@lru_cache(maxsize=4096)
def operator_name(function: Callable[..., Any]) -> tuple[str, bool]:
    """The plain name of a torch function, "add" for `Tensor.add_` and `torch.add`, and whether it changes its first
    operand."""
    name = getattr(function, "__name__", "")
    if name.startswith("__") and name.endswith("__"):
        inner = name[2:-2]
        base = inner[1:] if inner[:1] in ("i", "r") and inner[1:] in (*TWO_OPERANDS, "truediv") else inner
        return {"truediv": "div"}.get(base, base), base != inner and inner[0] == "i"
    return (name, False) if name.startswith("_") else (name.rstrip("_"), name.endswith("_"))


@dataclass(frozen=True)
class Call:
    """One call of an operator: its site (see `source`), and how often that site ran before in this forward."""

    operator: str
    site: str
    count: int

    def __str__(self) -> str:
        return f"{self.operator} at {self.site}" + (f", pass {self.count + 1}" if self.count else "")


ENTRY = Call("forward", "its own arguments", 0)
"""The call of a module's forward itself, for modules whose own calls are hidden."""


@dataclass(frozen=True)
class Place:
    """One operand of a call in a module's forward, where a quantizer can be inserted."""

    module: str
    call: Call
    operand: int

    def __str__(self) -> str:
        return f"{self.module or 'the model'}: input {self.operand} of {self.call}"


def operands_first(operator: str, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The call's arguments with its operands as the first positional ones: `torch.cat(tensors=x)` as `torch.cat(x)`."""
    names = (
        ("tensors",) if operator in OPERAND_LISTS else ("input", "other") if operator in TWO_OPERANDS else ("input",)
    )
    rest = dict(kwargs)
    for name in names[len(args) :]:
        if name not in rest:
            break
        args = (*args, rest.pop(name))
    return args, rest


def operands_of(operator: str, args: Any) -> dict[int, Tensor]:
    """The operands that can be quantized, floating-point tensors, by index."""
    if not args:
        return {}
    if operator in OPERAND_LISTS:
        found = dict(enumerate(args[0])) if isinstance(args[0], list | tuple) else {}
    elif operator in TWO_OPERANDS:
        found = dict(enumerate(args[:2]))
    elif operator in ONE_OPERAND:
        found = {0: args[0]}
    else:
        return {}
    return quantizable_tensors(found)


def quantizable_tensors(args: Sequence[Any] | Mapping[int, Any]) -> dict[int, Tensor]:
    """The arguments that can be quantized, floating-point tensors of at least one dimension, by index."""
    found = args if isinstance(args, Mapping) else dict(enumerate(args))
    return {i: x for i, x in found.items() if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 0}


def call_with(
    function: Callable[..., Any], operator: str, args: Any, kwargs: Mapping[str, Any], new: Mapping[int, Tensor]
) -> Any:
    """Calls the function with other operands."""
    if operator in OPERAND_LISTS:
        return function([new.get(i, x) for i, x in enumerate(args[0])], *args[1:], **kwargs)
    return function(*(new.get(i, x) for i, x in enumerate(args)), **kwargs)


def out_of_place(
    function: Callable[..., Any], operator: str, kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The out-of-place function of a call that changes its first operand, with its keyword arguments."""
    if "inplace" in kwargs:
        return function, {**kwargs, "inplace": False}
    pure: Callable[..., Any] = getattr(torch, operator, None) or getattr(nn.functional, operator)
    return pure, dict(kwargs)


def overwrite(x: Tensor, result: Tensor) -> Tensor:
    """Changes a tensor in place to the result, as every reader of an in-place call expects; returns the tensor."""
    if torch._C._get_tracing_state() is None:
        return x.copy_(result)
    function: Any = _Overwrite  # torch leaves `apply` untyped
    written: Tensor = function.apply(x, result)
    return written


class _Overwrite(torch.autograd.Function):
    """`overwrite` for the TorchScript exporter, which would write a copy as Shape and Expand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, result: Tensor) -> Tensor:
        """The function that the tracer runs."""
        ctx.mark_dirty(x)
        return x.copy_(result)

    @staticmethod
    def symbolic(g: Any, x: Any, result: Any) -> Any:
        """No node: later readers of the tensor read the result."""
        return result
