"""Replaces calls of a model's local functions by their nodes, exactly: rules and TensorRT see what they contain.

TensorRT refuses a function with Q/DQ that is called twice, because its layers get equal names (measured on
TensorRT-RTX 1.7.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx
from onnx import inliner

from ..errors import ModelError, first_line
from ..operators import PAIRS
from .opset import raise_function, raised, settles
from .protos import STANDARD, key, nested, refill, version

FOREIGN = ("com.microsoft", "com.ms", "ai.onnx")
"""Domains (with their subdomains) of ONNX Runtime's kernels, which it prefers to a local function."""

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
        ModelError: a function with Q/DQ cannot be inlined.
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
    """How often each function runs, and where."""

    def __init__(self, functions: dict[Identity, onnx.FunctionProto], graph: onnx.GraphProto) -> None:
        self.functions = functions
        self.number: dict[Identity, int] = {}
        self.place: dict[Identity, str] = {}
        self._quantizes: dict[Identity, bool] = {}
        self._open: list[Identity] = []
        for node in graph.node:
            for inner in nested(node):
                self._count(inner, key(node))

    def _count(self, node: onnx.NodeProto, place: str) -> None:
        """Counts the functions that a node calls, directly and through functions.

        Raises:
            ModelError: a function calls itself.
        """
        identity = (node.domain, node.op_type, node.overload)
        if identity not in self.functions:
            return
        if identity in self._open:
            raise ModelError(f"the local function '{_name(identity)}' calls itself; ONNX does not allow recursion")
        self.place.setdefault(identity, place)
        self.number[identity] = self.number.get(identity, 0) + 1
        if self.number[identity] > 2:
            return  # its own calls are already counted twice
        self._open.append(identity)
        for body in self.functions[identity].node:
            for inner in nested(body):
                self._count(inner, place)
        self._open.pop()

    def quantizes(self, identity: Identity) -> bool:
        """Returns whether a function contains Q/DQ, directly or through the functions that it calls."""
        if identity not in self._quantizes:
            nodes = [n for body in self.functions[identity].node for n in nested(body)]
            called = [(n.domain, n.op_type, n.overload) for n in nodes]
            self._quantizes[identity] = any(n.op_type in PAIRS for n in nodes) or any(
                self.quantizes(i) for i in called if i in self.functions
            )
        return self._quantizes[identity]


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
