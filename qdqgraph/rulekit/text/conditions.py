"""Reads `where`: conditions from the closed list of `predicates`, negated by `not`, joined by `or`.

For a variadic variable, a condition must hold for each of its tensors; after `some`, for at least one; after `not`, for
none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from ...errors import guess
from ...graph.graph import Graph
from ...toml.file import TextError
from .categories import expand
from .match import Match
from .pattern import Pattern
from .predicates import PREDICATES, Predicate


@dataclass(frozen=True)
class Condition:
    """One condition of a line of `where`.

    Attributes:
        text: the condition as written.
        mode: "" (it holds for every tensor of a variadic variable), "some" (for at least one), "not" (for none).
    """

    text: str
    mode: str
    predicate: Predicate
    arguments: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str, pattern: Pattern) -> Condition:
        """Reads "same_value(s, t)" or "not constant(x)".

        Raises:
            TextError: the predicate is unknown, or its arguments are wrong.
        """
        found = re.fullmatch(r"\s*(?:(not|some)\s+)?(\w+)\s*\(([^()]*)\)\s*", text)
        if not found:
            raise TextError(f"{text!r} is not a condition; write, for example: scalar(s), or: not constant(x)")
        mode, name, inside = found.groups()
        if name not in PREDICATES:
            near, known = guess(name, PREDICATES), ", ".join(PREDICATES)
            raise TextError(f"there is no predicate {name!r}{near or '.'} The list: {known}")
        predicate = PREDICATES[name]
        given = [a.strip() for a in inside.split(",")] if inside.strip() else []
        return cls(text.strip(), mode or "", predicate, _arguments(text, given, predicate, pattern))

    def fails(self, graph: Graph, match: Match) -> str:
        """Why the condition does not hold for a match; "" if it does."""
        groups = [match.tensors[a] if isinstance(a, _Variable) else (a,) for a in self.arguments]
        ways = max((len(g) for g in groups), default=1)
        reasons = [self.predicate.check(graph, *(g[min(i, len(g) - 1)] for g in groups)) for i in range(ways)]
        if self.mode == "not":
            return "" if all(reasons) else f"{self.text.removeprefix('not').strip()} holds"
        if self.mode == "some":
            return next(iter(reasons), f"{self.text}: there is no tensor") if all(reasons) else ""
        return next((r for r in reasons if r), "")


@dataclass(frozen=True)
class Alternatives:
    """One line of `where`: conditions joined by `or`, of which one must hold."""

    text: str
    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str, pattern: Pattern) -> Alternatives:
        """Reads "constant(w) or graph_input(w)".

        Raises:
            TextError: as `Condition.parse`.
        """
        return cls(text.strip(), tuple(Condition.parse(part, pattern) for part in re.split(r"\s+or\s+", text)))

    @property
    def operators(self) -> frozenset[str]:
        """The operators that the conditions name."""
        given = (a for c in self.conditions if "operator*" in c.predicate.arguments for a in c.arguments)
        return frozenset(a for a in given if not isinstance(a, _Variable))

    def fails(self, graph: Graph, match: Match) -> str:
        """Why no condition holds for a match; "" if one does."""
        reasons = [condition.fails(graph, match) for condition in self.conditions]
        return "; ".join(reasons) if all(reasons) else ""


TYPES = frozenset(onnx.TensorProto.DataType.keys())


class _Variable(str):
    """The name of a pattern's variable among a condition's arguments."""


def _arguments(text: str, given: Sequence[str], predicate: Predicate, pattern: Pattern) -> tuple[Any, ...]:
    kinds = list(predicate.arguments)
    if kinds and kinds[-1].endswith("*"):
        kinds = kinds[:-1] + [kinds[-1][:-1]] * max(1, len(given) - len(kinds) + 1)
    required = [k for k in kinds if not k.endswith("?")]
    if not len(required) <= len(given) <= len(kinds):
        raise TextError(f"{text!r} has {len(given)} arguments; write, for example: {predicate.example}")
    each = (_argument(text, a, kind.rstrip("?"), pattern) for a, kind in zip(given, kinds, strict=False))
    return tuple(argument for group in each for argument in group)


def _argument(text: str, given: str, kind: str, pattern: Pattern) -> tuple[Any, ...]:
    """The value of an argument; several for a category of operators."""
    if kind == "variable":
        if given not in pattern.variables:
            raise TextError(f"{text!r}: the pattern has no variable {given!r}; it has {_list(pattern.variables)}")
        return (_Variable(given),)
    if kind == "number":
        if not re.fullmatch(r"-?\d+(\.\d+)?", given):
            raise TextError(f"{text!r}: {given!r} is not a number")
        return (float(given),)
    if kind == "type" and given.upper() not in TYPES:
        raise TextError(f"{text!r}: ONNX has no type {given!r}; write, for example, int8 or float")
    if kind != "operator":
        return (given.upper(),)
    found = expand(given)
    if found == (given,) and not onnx.defs.has(given) and given != "Upsample" and "." not in given:
        raise TextError(f"{text!r}: ONNX has no operator {given!r}")
    return found


def _list(names: Any) -> str:
    return ", ".join(sorted(names))
