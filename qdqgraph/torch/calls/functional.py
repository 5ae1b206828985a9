"""Functional operators: what a call of torch's is, where it stands in the source, and which of its operands could be
quantized.

A residual add, `torch.cat`, `F.interpolate` or a MaxPool has no module of its own that could hold a quantizer. A call
is known by the module whose forward runs (`scopes`), its place in the source, and how often that place ran before in
this forward: branches that do not run move no other call, and a loop's passes are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

HOLDER = "_functional"
"""The child of a module that holds the quantizers of its calls."""
BOTH = (
    *("add", "mul", "sub", "div", "matmul", "bmm", "maximum", "minimum"),
    *("multiply", "subtract", "divide", "true_divide", "mm", "pow", "max", "min"),
)
"""Operators of two tensors."""
LISTS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack")
"""Operators of a list of tensors."""
FIRST = (
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
"""Operators of one data tensor; what follows it says how."""
RESHAPING = ("squeeze", "swapaxes", "transpose", "unsqueeze")
"""Of these, those that give a tensor another shape when they change it in place: there is nowhere to put a result."""


def operator_of(function: Callable[..., Any]) -> tuple[str, bool]:
    """The plain name of a torch function, "add" for `Tensor.add_` and `torch.add`, and whether it changes its first
    operand."""
    name = getattr(function, "__name__", "")
    if name.startswith("__") and name.endswith("__"):
        inner = name[2:-2]
        plain = inner[1:] if inner[:1] in ("i", "r") and inner[1:] in (*BOTH, "truediv") else inner
        return {"truediv": "div"}.get(plain, plain), plain != inner and inner[0] == "i"
    return (name, False) if name.startswith("_") else (name.rstrip("_"), name.endswith("_"))


@dataclass(frozen=True)
class Call:
    """One call of an operator: where it stands (see `source`), and how often it ran before in this forward."""

    operator: str
    where: str
    count: int

    def __str__(self) -> str:
        return f"{self.operator} at {self.where}" + (f", pass {self.count + 1}" if self.count else "")


ENTRY = Call("forward", "its own arguments", 0)
"""Not a call inside a module's forward but the forward itself, for modules whose inside is hidden."""


@dataclass(frozen=True)
class Place:
    """One operand of a call in a module's forward: where a quantizer stands or could stand."""

    module: str
    call: Call
    operand: int

    def __str__(self) -> str:
        return f"{self.module or 'the model'}: input {self.operand} of {self.call}"


def positional(operator: str, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The call's arguments with its operands in front: `torch.cat(tensors=x)` is `torch.cat(x)`."""
    names = ("tensors",) if operator in LISTS else ("input", "other") if operator in BOTH else ("input",)
    rest = dict(kwargs)
    for name in names[len(args) :]:
        if name not in rest:
            break
        args = (*args, rest.pop(name))
    return args, rest


def operands_of(operator: str, args: Any) -> dict[int, Tensor]:
    """The operands that could be quantized: floating-point tensors, by index."""
    if not args:
        return {}
    if operator in LISTS:
        found = dict(enumerate(args[0])) if isinstance(args[0], list | tuple) else {}
    elif operator in BOTH:
        found = dict(enumerate(args[:2]))
    elif operator in FIRST:
        found = {0: args[0]}
    else:
        return {}
    return tensors(found)


def tensors(args: Sequence[Any] | Mapping[int, Any]) -> dict[int, Tensor]:
    """The arguments that could be quantized: floating-point tensors, by index."""
    found = args if isinstance(args, Mapping) else dict(enumerate(args))
    return {i: x for i, x in found.items() if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 0}


def called(
    function: Callable[..., Any], operator: str, args: Any, kwargs: Mapping[str, Any], new: Mapping[int, Tensor]
) -> Any:
    """The call with other operands."""
    if operator in LISTS:
        return function([new.get(i, x) for i, x in enumerate(args[0])], *args[1:], **kwargs)
    return function(*(new.get(i, x) for i, x in enumerate(args)), **kwargs)


def out_of_place(
    function: Callable[..., Any], operator: str, kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """For a call that changes its first operand, the function and its keyword arguments that leave it."""
    if "inplace" in kwargs:
        return function, {**kwargs, "inplace": False}
    plain: Callable[..., Any] = getattr(torch, operator, None) or getattr(nn.functional, operator)
    return plain, dict(kwargs)


def put(x: Tensor, result: Tensor) -> Tensor:
    """The tensor, changed in place to the result: whoever holds it, under whatever name, goes on with that."""
    if torch._C._get_tracing_state() is None:
        return x.copy_(result)
    traced: Any = _Put
    found: Tensor = traced.apply(x, result)
    return found


class _Put(torch.autograd.Function):
    """`put` for the TorchScript exporter, which would write a copy as Shape and Expand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, result: Tensor) -> Tensor:
        """What the tracer runs."""
        ctx.mark_dirty(x)
        return x.copy_(result)

    @staticmethod
    def symbolic(g: Any, x: Any, result: Any) -> Any:
        """No node: what reads the tensor from now on reads the result."""
        return result
