"""Following a Python rule: which of its lines still spoke of a tensor, and which condition turned away from it.

Rules are pure, so a condition can be evaluated again, piece by piece, with the values it was evaluated with.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import CodeType, FrameType
from typing import Any

import onnx_graphsurgeon as gs

from ..graph.graph import Graph
from ..rulekit.rule import Rule

DEPTH = 3
"""How deep a value is searched for the tensor: a residual holds sides, a side holds a pair, a pair holds nodes."""
INNER = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")


@dataclass
class _Seen:
    """The last line that spoke of the tensor, with what its names stood for."""

    line: int = 0
    function: str = ""
    names: dict[str, Any] | None = None


class _Follower:
    """A trace function: keeps the last line at which some local value spoke of the tensor."""

    def __init__(self, file: str, tensor: str) -> None:
        self.file, self.tensor = file, tensor
        self.seen = _Seen()
        with open(file, encoding="utf-8") as source:  # noqa: PTH123 - the name comes from the code object
            self.text = source.read()
        loops = [n for n in ast.walk(ast.parse(self.text)) if isinstance(n, ast.For)]
        self.assigned = {loop.lineno: _assigned(loop) for loop in loops}
        self.stale: dict[int, dict[str, Any]] = {}

    def call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        return self.line if code.co_filename == self.file and code.co_name not in INNER else None

    def line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event != "line":
            return self.line
        stale = self.stale.setdefault(id(frame), {})
        if frame.f_lineno in self.assigned:  # the next turn of a loop: what this one set speaks of the last element
            names = self.assigned[frame.f_lineno]
            stale.update({name: value for name, value in frame.f_locals.items() if name in names})
            return self.line
        fresh = {n: v for n, v in frame.f_locals.items() if n not in stale or stale[n] is not v}
        if any(_mentions(v, self.tensor, DEPTH) for n, v in fresh.items() if n not in ("self", "graph")):
            names_then = {**frame.f_globals, **frame.f_locals}
            self.seen = _Seen(frame.f_lineno, frame.f_code.co_name, names_then)
        return self.line


def trace(graph: Graph, rule: Rule, tensor: str) -> Iterator[str]:
    """Runs `rule.find` once more and says where it turned away from `tensor`."""
    follower = _Follower(str(rule.file), tensor)
    previous = sys.gettrace()
    sys.settrace(follower.call)
    try:
        for _finding in rule.find(graph):
            pass
    finally:
        sys.settrace(previous)
    if follower.seen.names is None:
        yield "the rule never comes to this tensor: it looks at other operators or places"
        return
    yield f"{rule.file}:{follower.seen.line}, the last line of {follower.seen.function}() that speaks of it:"
    yield from _decided(follower.text, follower.seen)


def _assigned(loop: ast.For) -> frozenset[str]:
    """The names that a loop sets: its target's and its body's."""
    return frozenset(n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _mentions(value: Any, tensor: str, depth: int) -> bool:
    """Whether a local value is the tensor, or a node, pair or record that stands at it."""
    if isinstance(value, str):
        return value == tensor
    if isinstance(value, gs.Node):
        return any(t.name == tensor for t in value.outputs)
    if depth and is_dataclass(value) and not isinstance(value, type):
        return any(_mentions(getattr(value, f.name), tensor, depth - 1) for f in fields(value))
    return False


def _decided(text: str, seen: _Seen) -> Iterator[str]:
    """The statement at the last line, and the parts of its condition with what each came to.

    A `continue`, `break` or `return` is told by the `if` that it stands in.
    """
    around = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.stmt) and _spans(n, seen.line)]
    around.sort(key=lambda n: (n.lineno, -(n.end_lineno or 0)))
    statement = around[-1]
    if isinstance(statement, (ast.Continue, ast.Break, ast.Return)) and isinstance(around[-2], ast.If):
        statement = around[-2]
    condition = statement.test if isinstance(statement, (ast.If, ast.While)) else None
    shown = ast.get_source_segment(text, statement if condition is None else condition) or ""
    yield f"    {'' if condition is None else 'if '}{' '.join(shown.split())}"
    for part in _parts(condition):
        code = compile(ast.Expression(part), "<condition>", "eval")
        yield f"      {' '.join((ast.get_source_segment(text, part) or '').split())}  is  {_evaluated(code, seen)}"


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _parts(condition: ast.expr | None) -> list[ast.expr]:
    """The operands of an `and` or `or`, else the condition itself."""
    if condition is None:
        return []
    return list(condition.values) if isinstance(condition, ast.BoolOp) else [condition]


def _evaluated(code: CodeType, seen: _Seen) -> str:
    try:
        value = eval(code, dict(seen.names or {}))
    except Exception as error:  # noqa: BLE001 - a later operand may need what an earlier one guards
        return f"not evaluated ({type(error).__name__})"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return repr(value)
    return f"{bool(value)} ({type(value).__name__})"
