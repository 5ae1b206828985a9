"""Traces a Python rule: the last line at which it handled a tensor, and the condition that discarded the tensor.

Rules are pure, so each part of a condition can be evaluated again with the recorded values.
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
"""Depth of the search for the tensor in a value: a residual has sides, a side has a pair, a pair has nodes."""
INNER = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")


@dataclass
class _Seen:
    """The last line that referred to the tensor, with the values of its names."""

    line: int = 0
    function: str = ""
    names: dict[str, Any] | None = None


class _Follower:
    """A trace function that records the last line at which a local value refers to the tensor."""

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
        if frame.f_lineno in self.assigned:  # the next iteration of a loop: values of the last one are stale
            names = self.assigned[frame.f_lineno]
            stale.update({name: value for name, value in frame.f_locals.items() if name in names})
            return self.line
        fresh = {n: v for n, v in frame.f_locals.items() if n not in stale or stale[n] is not v}
        if any(_mentions(v, self.tensor, DEPTH) for n, v in fresh.items() if n not in ("self", "graph")):
            names_then = {**frame.f_globals, **frame.f_locals}
            self.seen = _Seen(frame.f_lineno, frame.f_code.co_name, names_then)
        return self.line


def trace(graph: Graph, rule: Rule, tensor: str) -> Iterator[str]:
    """Runs `rule.find` again and yields lines that say where it discarded `tensor`."""
    follower = _Follower(str(rule.file), tensor)
    previous = sys.gettrace()
    sys.settrace(follower.call)
    try:
        for _finding in rule.find(graph):
            pass
    finally:
        sys.settrace(previous)
    if follower.seen.names is None:
        yield "the rule does not reach this tensor: it checks other operators or sites"
        return
    yield f"{rule.file}:{follower.seen.line}, the last line of {follower.seen.function}() that refers to it:"
    yield from _decided(follower.text, follower.seen)


def _assigned(loop: ast.For) -> frozenset[str]:
    """Returns the names that a loop assigns, in its target and its body."""
    return frozenset(n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _mentions(value: Any, tensor: str, depth: int) -> bool:
    """Returns whether a local value is the tensor, its producer, or a record that contains one of the two."""
    if isinstance(value, str):
        return value == tensor
    if isinstance(value, gs.Node):
        return any(t.name == tensor for t in value.outputs)
    if depth and is_dataclass(value) and not isinstance(value, type):
        return any(_mentions(getattr(value, f.name), tensor, depth - 1) for f in fields(value))
    return False


def _decided(text: str, seen: _Seen) -> Iterator[str]:
    """Yields the statement at the last line, and each part of its condition with its value.

    For a `continue`, `break` or `return` this is the enclosing `if`.
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
    """Returns the operands of an `and` or `or`, or the condition itself."""
    if condition is None:
        return []
    return list(condition.values) if isinstance(condition, ast.BoolOp) else [condition]


def _evaluated(code: CodeType, seen: _Seen) -> str:
    try:
        value = eval(code, dict(seen.names or {}))
    except Exception as error:  # noqa: BLE001 - a later operand may fail without an earlier one
        return f"not evaluated ({type(error).__name__})"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return repr(value)
    return f"{bool(value)} ({type(value).__name__})"
