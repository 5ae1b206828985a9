"""Constants that a rewrite computes from captured constants: `compute = { t = "s * c" }`.

An expression is read as a syntax tree of which only arithmetic, numbers, variables and a few functions are allowed; no
part of it is executed as code.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import numpy as np

from ...errors import guess
from ...graph.graph import Graph
from ...toml.file import TextError
from .match import Match

LONGEST = 200
"""Most characters of an expression."""
Array = np.ndarray[Any, np.dtype[np.float64]]
OPERATIONS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.USub: np.negative,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "round": np.rint,
    "min": lambda *given: reduce(np.minimum, given),
    "max": lambda *given: reduce(np.maximum, given),
    "largest": np.max,
}
"""Functions of an expression: by element, except `largest`, the largest element of its argument."""


@dataclass(frozen=True)
class Computed:
    """A constant by an expression.

    Attributes:
        text: the expression as written.
        tree: its syntax tree.
        variables: the variables of the pattern that it reads, in the order of the text.
    """

    text: str
    tree: ast.expr
    variables: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, variables: Sequence[str]) -> Computed:
        """Reads an expression such as "s * c" or "max(s, t) / 2".

        Args:
            text: the expression.
            variables: the variables of the pattern that mean one tensor.

        Raises:
            TextError: it is not an expression, or names what is no variable, or reads none.
        """
        example = "write arithmetic of variables and numbers, such as s * c"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's advice about literals
                tree = ast.parse(text.strip(), mode="eval").body if len(text) <= LONGEST else None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise TextError(f"{text!r} is not an expression; {example}") from error
        if tree is None:
            raise TextError(f"an expression of {len(text)} characters is too long; write at most {LONGEST}")
        found: dict[str, None] = {}
        for node in _operands(tree, text, example):
            if node.id not in variables:
                raise TextError(
                    f"{text!r}: {node.id!r} is not a variable of the pattern with one tensor{guess(node.id, variables)}"
                )
            found[node.id] = None
        if not found:
            raise TextError(f"{text!r} reads no variable of the pattern; use a Constant in the rewrite")
        return cls(text, tree, tuple(found))

    def value(self, graph: Graph, match: Match) -> np.ndarray | str:
        """The value for a match, in float64 and then in the type of the first variable; text: why there is none.

        Operands are broadcast as in NumPy, but no result is larger than the largest operand.
        """
        given = {v: graph.value(name) if (name := match.tensor(v)) else None for v in self.variables}
        for variable, array in given.items():
            if array is None:
                return f"{self.text!r} needs a constant, but '{match.tensor(variable) or variable}' is not constant"
        known = {v: cast(np.ndarray, array) for v, array in given.items()}
        kind = next(iter(known.values())).dtype
        try:
            with np.errstate(all="ignore"):
                values = {v: array.astype(np.float64) for v, array in known.items()}
                found = _evaluate(self.tree, values, max(a.size for a in known.values()))
                stored = found.astype(kind)
        except (ValueError, TypeError):
            given_as = ", ".join(f"{v} {a.dtype} {list(a.shape)}" for v, a in known.items())
            return f"{self.text!r} cannot be computed from these types and shapes: {given_as}"
        kept = stored.astype(np.float64)
        whole = not kind.name.lstrip("b").startswith("float")  # integers, those of 4 bits included
        if not np.all(np.isfinite(kept)) or (whole and not np.array_equal(kept, found)):
            return f"{self.text!r} has a value that {kind} cannot store"
        return stored


def _operands(node: ast.expr, text: str, example: str) -> Sequence[ast.Name]:
    """The variables of an expression.

    Raises:
        TextError: a part of it is not allowed.
    """
    if isinstance(node, ast.Name):
        return [node]
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and abs(cast(float, node.value)) < 1e300:
        return []
    inner: Sequence[ast.expr] | None = None
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        inner = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in OPERATIONS:
        inner = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and node.args:
        name, several = node.func.id, node.func.id in ("min", "max")
        if name not in FUNCTIONS:
            raise TextError(f"{text!r}: there is no function {name!r}; the functions are {', '.join(FUNCTIONS)}")
        inner = node.args if several or len(node.args) == 1 else None
    if inner is None:
        raise TextError(f"{text!r}: {ast.unparse(node)!r} is not allowed; {example}")
    return [name for part in inner for name in _operands(part, text, example)]


def _evaluate(node: ast.expr, values: Mapping[str, Array], most: int) -> Array:
    """The value of an allowed expression.

    Raises:
        ValueError: shapes do not broadcast, or a result has more than `most` elements.
    """
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant):
        return np.asarray(node.value, np.float64)
    if isinstance(node, ast.Call):
        apply, inner = FUNCTIONS[cast(ast.Name, node.func).id], node.args
    elif isinstance(node, ast.BinOp):
        apply, inner = OPERATIONS[type(node.op)], [node.left, node.right]
    else:
        assert isinstance(node, ast.UnaryOp)
        apply, inner = OPERATIONS[type(node.op)], [node.operand]
    parts = [_evaluate(part, values, most) for part in inner]
    shape = np.broadcast_shapes(*(part.shape for part in parts))
    if np.prod(shape, dtype=np.float64) > most:
        raise ValueError("the result is larger than its operands")
    return np.asarray(apply(*parts), np.float64)
