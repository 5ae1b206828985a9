"""Traces a Python rule: the last line at which it handled a tensor, and the condition that discarded the tensor.

Rules are pure, so each part of a condition can be evaluated again with the recorded values. `words` says them in words,
`source_lines` as the lines of the file.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import FrameType
from typing import Any

import onnx_graphsurgeon as gs

from ..graph.graph import Graph, label
from ..rulekit.rule import Rule

DEPTH = 3
"""Depth of the search for the tensor in a value: a residual has sides, a side has a pair, a pair has nodes."""
SHOWN = 8
"""Items of a collection in a line."""
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


@dataclass(frozen=True)
class Stop:
    """Where a rule discarded a tensor.

    Attributes:
        file, line, function: the last line that referred to the tensor.
        text: the source of the file.
        names: the values of all names there.
    """

    file: str
    line: int
    function: str
    text: str
    names: Mapping[str, Any]

    @property
    def statement(self) -> ast.stmt:
        """The statement at the line; for a `continue`, `break` or `return` the `if` around it."""
        around = [n for n in ast.walk(ast.parse(self.text)) if isinstance(n, ast.stmt) and _spans(n, self.line)]
        around.sort(key=lambda n: (n.lineno, -(n.end_lineno or 0)))
        last = around[-1]
        leaves = isinstance(last, (ast.Continue, ast.Break, ast.Return)) and isinstance(around[-2], ast.If)
        return around[-2] if leaves else last

    @property
    def condition(self) -> ast.expr | None:
        """The condition of the statement; None if it has none."""
        found = self.statement
        return found.test if isinstance(found, (ast.If, ast.While)) else None

    def value(self, part: ast.expr) -> Any:
        """Returns the value of an expression at the line.

        Raises:
            Exception: whatever it raises: a later operand may fail without an earlier one.
        """
        return eval(compile(ast.Expression(part), "<condition>", "eval"), dict(self.names))

    def source(self, part: ast.AST) -> str:
        """Returns the text of a part of the file in one line."""
        return " ".join((ast.get_source_segment(self.text, part) or "").split())


def stop(graph: Graph, rule: Rule, tensor: str) -> Stop | None:
    """Runs `rule.find` again; returns where it discarded `tensor`, None if it never handled it."""
    file = inspect.unwrap(type(rule).find).__code__.co_filename  # `rule.file` may be relative
    follower = _Follower(file, tensor)
    previous = sys.gettrace()
    sys.settrace(follower.call)
    try:
        for _finding in rule.find(graph):
            pass
    finally:
        sys.settrace(previous)
    seen = follower.seen
    return None if seen.names is None else Stop(file, seen.line, seen.function, follower.text, seen.names)


def source_lines(found: Stop) -> Iterator[str]:
    """Yields the statement, and each part of its condition with its value, as lines of the rule's file."""
    yield f"{found.file}:{found.line}, the last line of {found.function}() that refers to it:"
    condition = found.condition
    yield f"    {'' if condition is None else 'if '}{found.source(condition or found.statement)}"
    for part in parts(condition):
        yield f"      {found.source(part)}  is  {_evaluated(found, part)}"


def parts(condition: ast.expr | None) -> list[ast.expr]:
    """Returns the operands of an `and` or `or`, or the condition itself."""
    if condition is None:
        return []
    return list(condition.values) if isinstance(condition, ast.BoolOp) else [condition]


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


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _evaluated(found: Stop, part: ast.expr) -> str:
    try:
        value = found.value(part)
    except Exception as error:  # noqa: BLE001 - a later operand may fail without an earlier one
        return f"not evaluated ({type(error).__name__})"
    operands = [part.left, *part.comparators] if isinstance(part, ast.Compare) else []
    operands += part.args if isinstance(part, ast.Call) else []
    given = [f"{found.source(o)} is {_short(found.value(o))}" for o in operands if not isinstance(o, ast.Constant)]
    return "; ".join([_short(value), *given])


def _short(value: Any) -> str:
    """Returns a value as text of one line: the name of a node, the items of a collection."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return repr(value)
    if isinstance(value, gs.Node):
        return f"'{label(value)}'"
    if isinstance(value, (set, frozenset, tuple, list)) and all(isinstance(v, str) for v in value):
        items = sorted(value)
        return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "") or "empty"
    return f"{bool(value)} ({type(value).__name__})"
