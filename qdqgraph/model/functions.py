"""Replaces calls of a model's local functions by their nodes, exactly: rules and TensorRT see what they contain.

TensorRT refuses a function with Q/DQ that is called twice, because its layers get equal names (measured on
TensorRT-RTX 1.7.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

import onnx
from onnx import inliner

from ..errors import ModelError, first_line
from ..operators import PAIRS
from .opset import raise_function, raised, settles
from .protos import STANDARD, key, nested, refill, version

FOREIGN = ("com.microsoft", "com.ms", "ai.onnx")
"""Domains (with their subdomains) of ONNX Runtime's kernels, which it prefers to a local function."""
MOST = 1_000_000
"""Nodes of all calls of functions that are inlined: functions that call functions twice have 2^depth."""

Keeps: TypeAlias = Callable[[str, str], bool]
"""Whether a function stays as it is, by its domain and name."""


def none(domain: str, name: str) -> bool:
    """Keeps no function."""
    return False


Identity = tuple[str, str, str]
"""Domain, name and overload of a function."""


@dataclass(frozen=True)
class Function:
    """A local function whose calls were replaced by its nodes.

    Attributes:
        name: "domain.name".
        calls: number of calls, at most 2; a call from a function that is called twice counts twice.
        place: the first output of the node of the main graph that calls it, or contains its first call.
        quantizes: whether Q/DQ are among its nodes, or those of the functions that it calls.
    """

    name: str
    calls: int
    place: str
    quantizes: bool


def inlined(model: onnx.ModelProto, keeps: Keeps = none) -> tuple[onnx.ModelProto, tuple[Function, ...]]:
    """Returns the model with the nodes of its local functions in place of their calls, and the functions.

    The rest of the model stays as it is, functions that nothing calls included. The model itself is returned if it
    calls no function. A function with the name of an operator of ONNX Runtime, and without Q/DQ, stays.

    Args:
        model: the model; it is not modified.
        keeps: which functions stay.

    Raises:
        ModelError: a function with Q/DQ cannot be inlined; a function calls itself; or the calls have more than `MOST`
            nodes.
    """
    functions = {_identity(f): f for f in model.functions if not keeps(f.domain, f.name)}
    if not functions:
        return model, ()
    calls = _Calls(functions, model.graph)
    mine = [i for i in functions if calls.number.get(i) and (not _foreign(i) or calls.quantizes(i))]
    if not mine:
        return model, ()
    try:
        new = _replaced(model, [functions[i] for i in mine])
    except Exception as error:
        if not any(calls.quantizes(i) for i in mine):
            return model, ()
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"the local functions contain Q/DQ and cannot be inlined: {first_line(error)}") from error
    names = [Function(_name(i), min(calls.number[i], 2), calls.place[i], calls.quantizes(i)) for i in mine]
    return new, tuple(names)


class _Calls:
    """How often each function runs, and where.

    Nothing here is recursive: functions may call each other in a long chain.

    Raises:
        ModelError: a function calls itself, or the functions have more than `MOST` nodes in all their calls.
    """

    def __init__(self, functions: dict[Identity, onnx.FunctionProto], graph: onnx.GraphProto) -> None:
        called = {i: Counter(each for each in _called(f.node) if each in functions) for i, f in functions.items()}
        self.number: Counter[Identity] = Counter()
        self.place: dict[Identity, str] = {}
        for node in graph.node:
            pending = [each for each in _called([node]) if each in functions]
            self.number.update(pending)
            while pending:
                if (identity := pending.pop()) not in self.place:
                    self.place[identity] = key(node)
                    pending += called[identity]
        order = _callers_first(called)
        for caller in order:
            for identity, times in called[caller].items():
                self.number[identity] += times * self.number[caller]
        nodes = sum(self.number[i] * len(f.node) for i, f in functions.items())
        if nodes > MOST:
            raise ModelError(
                f"the local functions have {nodes:,} nodes in all their calls, and more than {MOST:,} are not inlined: "
                "export the model with fewer functions that call functions"
            )
        self._quantizing = {i for i, f in functions.items() if any(name in PAIRS for _, name, _ in _called(f.node))}
        for caller in reversed(order):
            if not self._quantizing.isdisjoint(called[caller]):
                self._quantizing.add(caller)

    def quantizes(self, identity: Identity) -> bool:
        """Returns whether a function contains Q/DQ, directly or through the functions that it calls."""
        return identity in self._quantizing


def _callers_first(called: Mapping[Identity, Iterable[Identity]]) -> list[Identity]:
    """The functions, callers before what they call."""
    try:
        return [*TopologicalSorter(called).static_order()][::-1]
    except CycleError as error:
        name = _name(error.args[1][0])
        raise ModelError(f"the local function '{name}' calls itself; ONNX does not allow recursion") from error


def _called(nodes: Iterable[onnx.NodeProto]) -> Iterator[Identity]:
    """Domain, name and overload of the operator of each node, those of subgraphs included."""
    return ((n.domain, n.op_type, n.overload) for top in nodes for n in nested(top))


def _replaced(model: onnx.ModelProto, functions: Sequence[onnx.FunctionProto]) -> onnx.ModelProto:
    """Returns the model with these functions inlined; in the newest opset of model and functions if they differ in an
    operator that changed."""
    mine = {_identity(f) for f in functions}
    own = version(model)
    changed = [v for f in functions if (v := _version(f)) > own and not settles(f.node, v, own)]
    aligned = raised(model, max(changed, default=own))
    mine, target = {_identity(f) for f in functions}, version(aligned)
    for function in aligned.functions:
        if _identity(function) in mine:
            raise_function(function, target)
            for entry in function.opset_import:
                entry.version = target if entry.domain in STANDARD else entry.version
    selected = sorted({(f.domain, f.name) for f in functions})
    found = inliner.inline_selected_functions(aligned, selected)
    left = {(n.domain, n.op_type, n.overload) for top in found.graph.node for n in nested(top)} & mine
    if left:
        raise ModelError(f"the local function '{_name(min(left))}' cannot be inlined by onnx.inliner")
    refill(aligned.graph.node, found.graph.node)
    refill(aligned.graph.value_info, found.graph.value_info)
    refill(aligned.functions, [f for f in aligned.functions if _identity(f) not in mine])
    imported = {entry.domain for entry in aligned.opset_import}
    for function in functions:
        for entry in function.opset_import:
            if entry.domain not in imported and entry.domain not in STANDARD:
                imported.add(entry.domain)
                aligned.opset_import.append(entry)
    return aligned


def _identity(function: onnx.FunctionProto) -> Identity:
    return function.domain, function.name, function.overload


def _version(function: onnx.FunctionProto) -> int:
    return next((o.version for o in function.opset_import if o.domain in STANDARD), 0)


def _foreign(identity: Identity) -> bool:
    return any(identity[0] == d or identity[0].startswith(f"{d}.") for d in FOREIGN)


def _name(identity: Identity) -> str:
    return ".".join(filter(None, identity))
