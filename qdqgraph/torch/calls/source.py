"""The site of a call in the source: the function that makes the call, and which of its calls it is.

Calls are counted in the function's bytecode, not in lines: the site survives changes of comments, formatting, local
variables and other functions. It includes the number of the function's calls and a checksum of their names, so it does
not survive a change of the calls themselves. Each minor version of Python compiles the same source to other bytecode
(3.12 inlines comprehensions).
"""

from __future__ import annotations

import dis
import os
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from types import CellType, CodeType, FrameType, FunctionType, MethodType
from typing import Any, Literal

import torch
from torch import nn

from ..quantizer.backend import loaded_backends


def _folder(file: str) -> str:
    return str(Path(file).parent) + os.sep


TORCH, OURS = _folder(torch.__file__), _folder(__file__)
PLUMBING = ("functional.py", "_tensor.py", "overrides.py", "_jit_internal.py", "_tensor_docs.py")
"""Files of torch between a call and the user's code."""
CALLS = ("CALL", "BINARY_", "UNARY_", "COMPARE_", "GET_ITER", "UNPACK_SEQUENCE")
"""Prefixes of the instructions that can call an operator."""
NO_CALLS = ("CALL_INTRINSIC",)


def call_site(frame: FrameType | None) -> str:
    """The site of a call, in the user's code or in a module of torch; "" for calls of the quantization library.

    Args:
        frame: the innermost frame of the call.
    """
    while frame is not None:
        code = frame.f_code
        origin = _origin(code.co_filename)
        if origin == "library":
            return ""
        if origin == "user":
            return _calls_by_offset(code).get(frame.f_lasti, f"{code.co_qualname}, instruction {frame.f_lasti}")
        frame = frame.f_back
    return ""


def is_library_code(code: CodeType) -> bool:
    """Whether code is torch's or a quantization library's."""
    return code.co_filename.startswith(TORCH) or _origin(code.co_filename) == "library"


@lru_cache(maxsize=4096)
def _origin(file: str) -> Literal["library", "plumbing", "user"]:
    """Whose code a file contains: the quantization library's, ours or torch's between a call and the user's, or the
    user's."""
    if any(file.startswith(backend.folder) for backend in loaded_backends()):
        return "library"
    return "plumbing" if file.startswith(OURS) or (file.startswith(TORCH) and file.endswith(PLUMBING)) else "user"


def has_call(where: str, module: nn.Module) -> bool:
    """Whether a module's code contains the call of a site: the functions of its instance and its class, those that they
    wrap, and the functions of the Python modules that define them."""
    name = where.partition(",")[0]
    codes = [code for code in (*own_code(module), *neighbouring_code(module)) if code.co_qualname == name]
    return any(where in _calls_by_offset(code).values() for code in codes)


def own_code(module: nn.Module) -> Iterator[CodeType]:
    """The code of a module's own functions: those of its instance and its class, and those that they wrap."""
    return (code for function in _own_functions(module) for code in _nested_code(function.__code__))


def neighbouring_code(module: nn.Module) -> Iterator[CodeType]:
    """The code of the functions of the Python modules that define a module's own functions."""
    every = (x for f in _own_functions(module) for x in f.__globals__.values() if isinstance(x, FunctionType))
    return (code for function in _functions(every) for code in _nested_code(function.__code__))


def sites_by_offset(code: CodeType) -> dict[int, str]:
    """The sites of a function's calls by the offset of their instructions."""
    found = _calls_by_offset(code)
    return {
        i.offset: found[i.offset] for i in dis.get_instructions(code) if i.offset in found and i.opname != "PRECALL"
    }


def _own_functions(module: nn.Module) -> list[FunctionType]:
    return list(_functions(f for scope in (vars(module), *map(vars, type(module).__mro__)) for f in scope.values()))


def _functions(values: Iterable[Any]) -> Iterator[FunctionType]:
    """The functions among values, and those inside methods, properties and decorated functions."""
    left, seen = list(values), set[int]()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, FunctionType):
            yield value
            left += [getattr(value, "__wrapped__", None), *map(_cell_content, value.__closure__ or ())]
        elif isinstance(value, MethodType | staticmethod | classmethod):
            left.append(value.__func__)
        elif isinstance(value, property):
            left.append(value.fget)
        elif isinstance(value, partial):
            left.append(value.func)


def _cell_content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return None


@lru_cache(maxsize=4096)
def _calls_by_offset(code: CodeType) -> dict[int, str]:
    """The sites of a function's calls by bytecode offset. They include the instruction's inline cache, where the offset
    of a frame is while a Python function that it called runs, and the PRECALL of Python 3.11 before it: after a few
    runs the interpreter calls builtins such as `sum` there (PEP 659)."""
    every = list(dis.get_instructions(code))
    ends = [i.offset for i in every[1:]] + [len(code.co_code)]
    starts = [before if before.opname == "PRECALL" else i for before, i in zip([every[0], *every], every, strict=False)]
    calls = [
        (start, end)
        for i, start, end in zip(every, starts, ends, strict=True)
        if i.opname.startswith(CALLS) and not i.opname.startswith(NO_CALLS)
    ]
    names = zlib.crc32(" ".join(code.co_names).encode())
    return {
        at: f"{code.co_qualname}, call {number} of {len(calls)} (code {names:08x})"
        for number, (start, end) in enumerate(calls, start=1)
        for at in range(start.offset, end, 2)
    }


def _nested_code(code: CodeType) -> Iterator[CodeType]:
    """A function's code and the code of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested_code(constant)
