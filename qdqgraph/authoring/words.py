"""Explains in words where a Python rule discarded a tensor: the condition with its values, and the tensor itself."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs
from onnx import TensorProto

from ..graph.graph import Graph, Reader, key, label
from ..graph.pair import Pair, pairs
from .trace import Stop, parts

SHOWN = 6
"""Number of names in a sentence."""
PROMISE = re.compile(r"^\s*(?:Returns? )?[Ww]hether (.*?)[.;:](?:\s|$)", re.DOTALL)
"""The start of the docstring of a function that answers a question."""
RELATIONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("equal to", "not equal to"),
    ast.NotEq: ("not equal to", "equal to"),
    ast.Lt: ("below", "not below"),
    ast.LtE: ("at most", "above"),
    ast.Gt: ("above", "at most"),
    ast.GtE: ("at least", "below"),
}
"""How a comparison is said if it is true, and if it is not."""


def condition_words(found: Stop) -> Iterator[str]:
    """Yields what the rule found at the condition that discarded the tensor: the parts that decided it, with values."""
    condition = found.condition
    if condition is None:
        return
    yield from dict.fromkeys(_decisive(found, condition))


def place_words(graph: Graph, tensor: str) -> Iterator[str]:
    """Yields what a tensor is: type, shape, producer and its inputs, pairs, consumers."""
    kind, shape = graph.dtype(tensor), graph.shape(tensor)
    dims = "" if shape is None else f" [{', '.join('?' if d is None else str(d) for d in shape)}]"
    type_name = TensorProto.DataType.Name(kind) if kind else "a tensor of unknown type"
    yield f"'{tensor}' is {type_name}{dims}, {_source(graph, tensor)}"
    for pair in dict.fromkeys(p for p in pairs(graph) if tensor in (p.tensor, p.site, *map(key, p.nodes))):
        yield f"  {_pair_words(pair)}"
    readers = graph.readers(tensor)
    yield f"  consumers: {_few([_consumer(r) for r in readers]) if readers else 'none'}"


def _source(graph: Graph, tensor: str) -> str:
    node = graph.producer(tensor)
    if node is None:
        return "a graph input" if tensor in graph.inputs else "an initializer"
    given = [
        f"'{t.name}'{'' if pairs(graph).made(t.name) is None else ' (dequantized)'}" for t in node.inputs if t.name
    ]
    return f"the output of {_node(node)}" + (f", which reads {_few(given)}" if given else "")


def _pair_words(pair: Pair) -> str:
    scale = pair.scale
    if scale is None:
        size = "a computed scale"
    elif scale.size == 1:
        size = f"scale {float(scale.reshape(())):.6g}"
    else:
        size = f"{scale.size} scales from {scale.min():.6g} to {scale.max():.6g}, axis {pair.axis}"
    return f"a pair ({pair.kind}) quantizes '{pair.tensor}' to {(pair.types[1] or 'unknown').upper()}: {size}"


def _consumer(reader: Reader) -> str:
    return (
        f"{_node(reader.node)} (input {reader.index})" if reader.index >= 0 else f"a subgraph of {_node(reader.node)}"
    )


def _decisive(found: Stop, condition: ast.expr) -> Iterator[str]:
    """Yields the parts of a condition that made it true or false."""
    whole = _truth(found, condition)
    if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        yield from _decisive(found, condition.operand)
    elif isinstance(condition, ast.BoolOp):
        mine = [p for p in parts(condition) if _truth(found, p) is whole]
        decides = isinstance(condition.op, ast.Or) is bool(whole)
        for part in mine[:1] if decides else mine:
            yield from _decisive(found, part)
    elif isinstance(condition, ast.Call) and (inner := _inside(found, condition)) is not None:
        yield from _decisive(*inner)
    elif isinstance(condition, ast.Name) and (source := _assigned(found, condition.id)) is not None:
        yield from _decisive(found, source)
    else:
        yield _said(found, condition, bool(whole))


def _inside(found: Stop, call: ast.Call) -> tuple[Stop, ast.expr] | None:
    """Returns what a helper of the rule's file evaluates: one that only returns an expression, and whose docstring does
    not say what its answer means; None for any other call."""
    function = _value(found, call.func)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None or code.co_filename != found.file or PROMISE.match(inspect.getdoc(function) or ""):
        return None
    for node in ast.walk(ast.parse(found.text)):
        if isinstance(node, ast.FunctionDef) and (node.name, node.lineno) == (code.co_name, code.co_firstlineno):
            last = node.body[-1]
            documented = [
                s for s in node.body[:-1] if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            ]
            if documented or not isinstance(last, ast.Return) or last.value is None:
                return None
            try:
                given = inspect.signature(function).bind(
                    *map(found.value, call.args), **{k.arg: found.value(k.value) for k in call.keywords if k.arg}
                )
            except Exception:  # noqa: BLE001 - as above
                return None
            given.apply_defaults()
            names = {**function.__globals__, **given.arguments}
            if (owner := getattr(function, "__self__", None)) is not None:
                names[code.co_varnames[0]] = owner
            return replace(found, line=last.lineno, function=node.name, names=names), last.value
    return None


def _truth(found: Stop, part: ast.expr) -> bool | None:
    try:
        return bool(found.value(part))
    except Exception:  # noqa: BLE001 - a later operand may fail without an earlier one
        return None


def _assigned(found: Stop, name: str) -> ast.expr | None:
    """Returns the condition assigned to a name, if the function assigns it once before; None otherwise."""
    spans = [
        n
        for n in ast.walk(ast.parse(found.text))
        if isinstance(n, ast.FunctionDef) and n.lineno <= found.line <= (n.end_lineno or n.lineno)
    ]
    owner = max(spans, key=lambda n: n.lineno, default=None)
    values = [
        n.value
        for n in ast.walk(owner or ast.Module([], []))
        if isinstance(n, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in n.targets)
    ]
    tests = (ast.BoolOp, ast.Compare, ast.UnaryOp)
    return (
        values[0]
        if len(values) == 1 and isinstance(values[0], tests) and isinstance(found.names.get(name), bool)
        else None
    )


def _said(found: Stop, part: ast.expr, true: bool) -> str:
    """Returns one part of a condition in words."""
    if isinstance(part, ast.Compare) and len(part.ops) == 1:
        left, right, relation = part.left, part.comparators[0], part.ops[0]
        if isinstance(relation, (ast.In, ast.NotIn)):
            inside = true is isinstance(relation, ast.In)
            return f"{_term(found, left)} is {'' if inside else 'not '}{_collection(found, right)}"
        if isinstance(relation, (ast.Is, ast.IsNot)) and isinstance(right, ast.Constant) and right.value is None:
            return _present(found, left, true is isinstance(relation, ast.IsNot))
        if type(relation) in RELATIONS:
            said = RELATIONS[type(relation)][0 if true else 1]
            return f"{_term(found, left)} is {said} {_term(found, right)}"
    if isinstance(part, ast.Call) and (promise := PROMISE.match(_promised(found, part))):
        given = _few([a for a in (_shown(_value(found, arg)) for arg in part.args) if a])
        return f"{'true' if true else 'not true'} for {given or 'the graph'}: {' '.join(promise[1].split())}"
    value = _value(found, part)
    if isinstance(value, bool):
        return f"{'it is' if true else 'it is not'} {_phrase(found, part)}"
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return f"it collects `{_phrase(found, part)}`, and {f'finds {len(value)}' if value else 'finds none'}"
    return _present(found, part, true)


def _present(found: Stop, part: ast.expr, there: bool) -> str:
    """Returns that there is something or not: what a function promises to return, or the name of an expression."""
    doc = _promised(found, part) if isinstance(part, ast.Call) else ""
    if not doc or not isinstance(part, ast.Call):
        return f"there is {'a value' if there else 'nothing'} for: {_phrase(found, part)}"
    given = _few([a for a in (_shown(_value(found, arg)) for arg in part.args) if a])
    first = " ".join(re.split(r"[.;](?:\s|$)", doc)[0].split()).removeprefix("Returns ")
    return f"for {given or 'the graph'} there is {'one' if there else 'none'}: {first[:1].lower()}{first[1:]}"


def _promised(found: Stop, call: ast.Call) -> str:
    """Returns the docstring of the function that is called; "" if it is not one of rules or of this package."""
    function = _value(found, call.func)
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    own = code is not None and (code.co_filename == found.file or str(Path(__file__).parents[1]) in code.co_filename)
    return (inspect.getdoc(function) or "") if own else ""


def _value(found: Stop, part: ast.expr) -> Any:
    try:
        return found.value(part)
    except Exception:  # noqa: BLE001 - as above
        return None


def _term(found: Stop, part: ast.expr) -> str:
    """Returns an operand: what it is, and its value."""
    value = _value(found, part)
    if isinstance(part, ast.Attribute) and part.attr == "op" and isinstance(node := _value(found, part.value), gs.Node):
        return f"the operator of '{label(node)}', {node.op},"
    shown = _shown(value)
    if isinstance(part, ast.Constant) or isinstance(value, (gs.Node, gs.Tensor, Pair)) or not shown:
        return shown or f"the {_phrase(found, part)}"
    named = isinstance(value, str) and not isinstance(part, ast.Attribute)
    return shown if named else f"the {_phrase(found, part)}, {shown},"


def _collection(found: Stop, part: ast.expr) -> str:
    value = _value(found, part)
    if isinstance(value, (set, frozenset, tuple, list)) and value and len(value) <= SHOWN * 3:
        return f"one of {', '.join(sorted(str(_shown(v) or v).strip(chr(39)) for v in value))}"
    owner = _value(found, part.value) if isinstance(part, ast.Attribute) else None
    doc = inspect.getdoc(getattr(type(owner), part.attr, None)) if isinstance(part, ast.Attribute) else None
    first = "" if doc is None else doc.split(". ")[0].split("\n\n")[0].rstrip(".")
    return f"one of these: {' '.join(first.split())}" if first else f"one of the {_phrase(found, part)}"


def _phrase(found: Stop, part: ast.expr) -> str:
    """Returns the name of an expression in words: `found.skips` is "skips of found"."""
    if isinstance(part, ast.Name):
        return part.id.strip("_").replace("_", " ")
    if isinstance(part, ast.Attribute):
        owner = _shown(_value(found, part.value)) or _phrase(found, part.value)
        return f"{part.attr.strip('_').replace('_', ' ')} of {owner}"
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "len":
        return f"number of {_phrase(found, part.args[0])}"
    if isinstance(part, ast.Call):
        given = _few([a for a in (_shown(_value(found, arg)) for arg in part.args) if a])
        return f"{_phrase(found, part.func).partition(' of ')[0]}" + (f" of {given}" if given else "")
    return found.source(part).replace("_", " ")


def _shown(value: Any) -> str:
    """Returns a value of the graph as text; "" if it has no short text."""
    if isinstance(value, gs.Node):
        return _node(value)
    if isinstance(value, gs.Tensor):
        return f"'{value.name}'"
    if isinstance(value, Pair):
        return f"the pair of '{value.tensor}'"
    if isinstance(value, Reader):
        return _consumer(value)
    if isinstance(value, str):
        return f"'{value}'"
    return f"{value:.6g}" if isinstance(value, float) else str(value) if isinstance(value, int) else ""


def _node(node: gs.Node) -> str:
    return label(node) if not node.name else f"{node.op} '{node.name}'"


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
