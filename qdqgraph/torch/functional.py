"""Functional operators: what a call of torch's is, where it stands in the source, and which of its operands could be
quantized.

A residual add, `torch.cat`, `F.interpolate` or a MaxPool has no module of its own that could hold a quantizer. A call
is known by the module whose forward runs (`scopes`), its place in the source, and how often that place ran before in
this forward: branches that do not run move no other call, and a loop's passes are told apart.
"""

from __future__ import annotations

import dis
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor

from .quantizer import qnn

BOTH = ("add", "mul", "sub", "div", "matmul", "bmm", "maximum", "minimum")
"""Operators of two tensors."""
LISTS = ("cat", "concat", "concatenate", "stack")
"""Operators of a list of tensors."""
FIRST = (
    *("interpolate", "upsample", "max_pool1d", "max_pool2d", "max_pool3d", "mean"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "getitem", "narrow", "index_select", "select"),
    *("transpose", "permute", "swapaxes", "movedim", "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze"),
    *("pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat", "expand", "tile", "roll", "contiguous"),
    *("relu", "relu6", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "leaky_relu", "elu", "mish"),
    *("softplus", "clamp", "hardtanh", "batch_norm", "neg", "abs", "exp", "sqrt"),
)
"""Operators of one data tensor; what follows it says how."""


def _folder(file: str) -> str:
    return str(Path(file).parent) + os.sep


TORCH, OURS, QUANTIZATION = _folder(torch.__file__), _folder(__file__), _folder(_folder(qnn.__file__))
PLUMBING = ("functional.py", "_tensor.py", "overrides.py", "_jit_internal.py", "_tensor_docs.py")
"""Files of torch between a call and the code that wrote it."""


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
    """One call of an operator: where it stands in the source, and how often that place ran before in this forward."""

    operator: str
    where: str
    count: int

    def __str__(self) -> str:
        return f"{self.operator} at {self.where}" + (f", pass {self.count + 1}" if self.count else "")


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
    return {i: x for i, x in found.items() if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 0}


def called(
    function: Callable[..., Any], operator: str, args: Any, kwargs: Mapping[str, Any], new: Mapping[int, Tensor]
) -> Any:
    """The call with other operands."""
    if operator in LISTS:
        return function([new.get(i, x) for i, x in enumerate(args[0])], *args[1:], **kwargs)
    return function(*(new.get(i, x) for i, x in enumerate(args)), **kwargs)


def where(frame: FrameType | None) -> tuple[str, bool]:
    """Function, line within it and column of the code that made a call, "" for the quantization library's own; and
    whether that code is an operator (`a += b`), so that it takes up the result."""
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.startswith(QUANTIZATION):
            return "", False
        if not file.startswith(OURS) and not (file.startswith(TORCH) and file.endswith(PLUMBING)):
            return _written(code, frame.f_lasti)
        frame = frame.f_back
    return "", False


@lru_cache(maxsize=65536)
def _written(code: CodeType, instruction: int) -> tuple[str, bool]:
    line, _, column, _ = list(code.co_positions())[instruction // 2]
    place = f"{code.co_qualname}:{(line or code.co_firstlineno) - code.co_firstlineno}:{column or 0}"
    return place, dis.opname[code.co_code[instruction]] == "BINARY_OP"
