"""Where a call stands in the source: the function that makes it, and which of its calls it is.

Counted in the function's code, not in lines: comments, formatting and the functions above it may change, the call stays
known. How many calls there are is part of the name, so a function with other code has other names.
"""

from __future__ import annotations

import dis
import inspect
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import torch

from .quantizer import qnn


def _folder(file: str) -> str:
    return str(Path(file).parent) + os.sep


TORCH, OURS, QUANTIZATION = _folder(torch.__file__), _folder(__file__), _folder(_folder(qnn.__file__))
PLUMBING = ("functional.py", "_tensor.py", "overrides.py", "_jit_internal.py", "_tensor_docs.py")
"""Files of torch between a call and the code that wrote it."""
CALLS = ("CALL", "BINARY_", "UNARY_", "COMPARE_", "GET_ITER", "UNPACK_SEQUENCE")
"""How the names of instructions begin that can call an operator; the same on Python 3.11 to 3.13."""
NO_CALLS = ("CALL_INTRINSIC",)


def caller(frame: FrameType | None) -> tuple[str, bool]:
    """Where the code stands that made a call, "" for the quantization library's own; and whether that code is an
    operator (`a += b`), so that it takes up the result.

    Args:
        frame: the innermost frame of the call.
    """
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.startswith(QUANTIZATION):
            return "", False
        if not file.startswith(OURS) and not (file.startswith(TORCH) and file.endswith(PLUMBING)):
            found = _calls(code)
            operator = dis.opname[code.co_code[frame.f_lasti]] == "BINARY_OP"
            return found.get(frame.f_lasti, f"{code.co_qualname}, instruction {frame.f_lasti}"), operator
        frame = frame.f_back
    return "", False


def is_known(where: str, kind: type) -> bool:
    """Whether a class still makes a call; also True where the function that made it is none of the class's own."""
    name = where.partition(",")[0]
    functions = (inspect.unwrap(f) for c in kind.__mro__ for f in vars(c).values() if isinstance(f, FunctionType))
    codes = [code for f in functions for code in _inside(f.__code__) if code.co_qualname == name]
    return not codes or any(where in _calls(code).values() for code in codes)


@lru_cache(maxsize=4096)
def _calls(code: CodeType) -> dict[int, str]:
    """The names of a function's calls, by offset in its code."""
    offsets = [
        i.offset for i in dis.get_instructions(code) if i.opname.startswith(CALLS) and not i.opname.startswith(NO_CALLS)
    ]
    return {at: f"{code.co_qualname}, call {n} of {len(offsets)}" for n, at in enumerate(offsets, start=1)}


def _inside(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inside(constant)
