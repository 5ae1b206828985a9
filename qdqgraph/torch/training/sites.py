"""Finds the site of a call again in code that changed, or that another minor version of Python compiled.

A site (`calls.source`) is exact: it counts the instructions of a function. A description of a call is what survives
changes elsewhere in the function: the name of what is called, or the operator, and which of the function's calls of
that name it is, in the order of the source. An added assert changes the sites, but not the descriptions.
"""

from __future__ import annotations

import dis
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from torch import nn

from ..calls.source import neighbouring_code, own_code, sites_by_offset

COMPREHENSION = re.compile(r"(\.<locals>)?\.<(list|set|dict)comp>")
"""In the name of a function: a comprehension, which Python 3.12 compiles into the function that contains it.
Source: https://peps.python.org/pep-0709/"""
NAMED = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST", "LOAD_SUPER_ATTR")
"""Prefixes of the instructions that load what is called."""
Position = tuple[int, int, int, int]
"""First and last line, first and last column of an expression, in the order of the source: lines and columns of its
beginning, then of its end."""


@dataclass(frozen=True)
class Description:
    """One call of a function.

    Attributes:
        function: the function's name, without comprehensions.
        call: the name of what is called, or the operator.
        number: which of the function's calls of that name it is, from 0; total: how many there are.
        copy: which of the compiled copies of this call it is: Python compiles the code of `finally` several times.
    """

    function: str
    call: str
    number: int
    total: int
    copy: int = 0

    def __str__(self) -> str:
        return f"{self.call!r}, number {self.number + 1} of {self.total}, in {self.function}"


def describe_site(site: str, module: nn.Module) -> Description | None:
    """The description of a site in a module's code; None if its code is not found, or what it calls has no name."""
    name = _function(site.partition(",")[0])
    for codes in _functions((*own_code(module), *neighbouring_code(module)), name):
        for description, found in _described(codes, name):
            if found == site:
                return description if description.call else None
    return None


def find_site(description: Description, module: nn.Module) -> str | None:
    """The site of a described call in a module's code, where a class may have another name; None if there is none, or
    the function has another number of calls of that name."""
    name = description.function
    same = [*_functions((*own_code(module), *neighbouring_code(module)), name)]
    method = name.rpartition(".")[2]
    own = {n for n in (_function(c.co_qualname) for c in own_code(module)) if n.rpartition(".")[2] == method}
    renamed = [codes for n in sorted(own - {name}) for codes in _functions(own_code(module), n)]
    for codes in same or renamed:
        for found, site in _described(codes, name):
            if found == description:
                return site
    return None


def _function(qualified: str) -> str:
    return COMPREHENSION.sub("", qualified)


def _functions(codes: Iterable[CodeType], name: str) -> Iterator[list[CodeType]]:
    """The codes of a function and of its comprehensions, for each file that has a function of this name."""
    by_file: dict[str, dict[int, CodeType]] = {}
    for code in codes:
        if _function(code.co_qualname) == name:
            by_file.setdefault(code.co_filename, {})[id(code)] = code
    return (list(found.values()) for found in by_file.values())


def _described(codes: list[CodeType], name: str) -> list[tuple[Description, str]]:
    """The calls of a function, with their sites."""
    copies: dict[tuple[str, Position], list[str]] = {}
    for code in codes:
        for call, position, site in _calls(code):
            copies.setdefault((call, position), []).append(site)
    by_name: dict[str, list[list[str]]] = {}
    for (call, _), sites in sorted(copies.items(), key=lambda entry: entry[0][1]):
        by_name.setdefault(call, []).append(sites)
    return [
        (Description(name, call, number, len(every), copy), site)
        for call, every in by_name.items()
        for number, sites in enumerate(every)
        for copy, site in enumerate(sites)
    ]


def _calls(code: CodeType) -> Iterator[tuple[str, Position, str]]:
    """The calls of a code: what is called, the position of the expression, and the site."""
    sites = sites_by_offset(code)
    loads: dict[tuple[int, int], dict[tuple[int, int], str]] = {}
    for instruction in dis.get_instructions(code):
        position = _position(instruction)
        if position is None:
            continue
        start, end = (position[0], position[1]), (position[2], position[3])
        if instruction.opname.startswith(NAMED) and isinstance(instruction.argval, str):
            loads.setdefault(start, {})[end] = instruction.argval
            if instruction.opname.startswith(("LOAD_ATTR", "LOAD_METHOD")):
                loads[start][end] = f".{instruction.argval}"
        if instruction.offset in sites:
            inside = [(e, n) for e, n in loads.get(start, {}).items() if e < end]
            yield _call_name(instruction, max(inside)[1] if inside else ""), position, sites[instruction.offset]


def _call_name(instruction: dis.Instruction, loaded: str) -> str:
    """What an instruction calls: `cat`, `+`, `[]`, or `shape[]` for an element of an attribute."""
    kind = instruction.opname
    if kind.startswith("CALL"):
        return loaded.removeprefix(".")
    if kind in ("BINARY_SUBSCR", "BINARY_SLICE") or instruction.argrepr == "[]":
        return f"{loaded.removeprefix('.')}[]" if loaded.startswith(".") else "[]"
    return instruction.argrepr if kind == "BINARY_OP" else kind


def _position(instruction: dis.Instruction) -> Position | None:
    found: Any = instruction.positions
    if found is None or None in (found.lineno, found.col_offset, found.end_lineno, found.end_col_offset):
        return None
    return found.lineno, found.col_offset, found.end_lineno, found.end_col_offset
