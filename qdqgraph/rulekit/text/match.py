"""Matching: every place where a graph matches a pattern, and how far matching got elsewhere.

Matching starts at nodes of one operator, which the graph has indexed, and follows edges from there: its cost grows
with the candidates of that operator, not with the nodes of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ...graph.graph import Graph, Node, Reader, input_name, label
from ...graph.pair import SCALE_TYPES, equal_numbers
from ...operators import COMMUTATIVE, PAIRS
from .pattern import Pattern, PatternNode, Step, operator

FEW = 8
"""Up to this many readers of a tensor are tried one by one."""
ZERO_POINT = 2
"""The index of the zero-point among the inputs of QuantizeLinear and DequantizeLinear."""


@dataclass(frozen=True)
class Match:
    """One place where a graph matches a pattern.

    Attributes:
        tensors: variable → tensor names: one, several if it is variadic, "" if an optional input is absent.
        attributes: attribute variable → the attribute of the node, None if the node omits it.
        nodes: index of the pattern's node → the graph's node.
    """

    tensors: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, onnx.AttributeProto | None]
    nodes: Mapping[int, Node]

    def tensor(self, variable: str) -> str:
        """The tensor bound to a variable; "" if it is absent."""
        return next(iter(self.tensors[variable]), "")


@dataclass
class Trace:
    """The deepest failure of matching, and its reason."""

    depth: int = -1
    match: Match | None = None
    reason: str = ""

    def note(self, match: Match, reason: str, more: int = 0) -> None:
        """Keeps a failure if it is deeper than all before."""
        if len(match.nodes) + more > self.depth:
            self.depth, self.match, self.reason = len(match.nodes) + more, match, reason


EMPTY = Match({}, {}, {})


def matches(graph: Graph, pattern: Pattern, start: int) -> Iterator[Iterator[Match]]:
    """For each node that may match `pattern.nodes[start]`, in file order, its matches."""
    steps = pattern.order(start)
    for node in candidates(graph, pattern.nodes[start]):
        if _alike(graph, pattern, start, node):
            yield matches_at(graph, pattern, start, node, steps)


def _alike(graph: Graph, pattern: Pattern, index: int, node: Node) -> bool:
    """Whether the operators upstream of a node are those of the pattern: quickly excludes most candidates."""
    line = pattern.nodes[index]
    if operator(node) not in line.ops:
        return False
    if node.op in COMMUTATIVE:
        return True
    for variable, tensor in zip(line.inputs, node.inputs, strict=False):
        maker = pattern.made.get(variable)
        if maker is not None and variable not in pattern.variadic:
            before = graph.producer(tensor.name)
            if before is None or not _alike(graph, pattern, maker, before):
                return False
    return True


def matches_at(
    graph: Graph, pattern: Pattern, start: int, node: Node, steps: Sequence[Step], trace: Trace | None = None
) -> Iterator[Match]:
    """Every match in which `node` matches `pattern.nodes[start]`; `steps` is `pattern.order(start)`."""
    matcher = _Matcher(graph, pattern, trace)
    for first in matcher.node(EMPTY, start, node):
        yield from matcher.extend(first, steps)


def candidates(graph: Graph, wanted: PatternNode) -> Iterator[Node]:
    """The nodes with the operators of a pattern's node, in file order."""
    if not any("." in op for op in wanted.ops):
        yield from graph.nodes(*sorted(wanted.ops))
        return
    yield from (n for n in graph.nodes() if operator(n) in wanted.ops)


def same_value(graph: Graph, a: str, b: str) -> bool:
    """Whether both are the same tensor, or constants with the same elements: of one type, bit for bit, or equal
    numbers in two floating-point types."""
    if a == b:
        return True
    if not a or not b:
        return False
    first, second = graph.value(a), graph.value(b)
    if first is None or second is None:
        return False
    return first.size == second.size and equal_numbers(first, second)


def _by_value(graph: Graph, place: tuple[str, int]) -> dict[str | int, list[Reader]]:
    """The readers of a tensor, by the mark of what they read at one input; computed once."""
    known, (tensor, slot) = graph.known(_by_value), place
    if place not in known:
        found: dict[str | int, list[Reader]] = {}
        for reader in graph.readers(tensor):
            found.setdefault(_mark(graph, input_name(reader.node, slot)), []).append(reader)
        known[place] = found
    return known[place]


def _mark(graph: Graph, tensor: str) -> str | int:
    """Equal for two tensors with the `same_value`; often different for others."""
    value = graph.value(tensor) if tensor else None
    if value is None:
        return tensor
    if str(value.dtype) in SCALE_TYPES:
        return hash((value.astype(np.float32) + np.float32(0)).tobytes())  # one zero
    return hash((str(value.dtype), value.tobytes()))


class _Matcher:
    def __init__(self, graph: Graph, pattern: Pattern, trace: Trace | None) -> None:
        self.graph, self.pattern, self.trace = graph, pattern, trace

    def extend(self, match: Match, steps: Sequence[Step]) -> Iterator[Match]:
        if not steps:
            yield match
            return
        step = steps[0]
        for node in self._reached(match, step):
            for longer in self.node(match, step.node, node):
                yield from self.extend(longer, steps[1:])

    def _reached(self, match: Match, step: Step) -> list[Node]:
        """The nodes of the graph that a step reaches."""
        wanted, tensor = self.pattern.nodes[step.node], match.tensor(step.variable)
        if step.slot < 0:
            maker = self.graph.producer(tensor)
            if maker is None:
                what = "an initializer" if tensor in self.graph.initializers else "a graph input"
                self._fail(match, "'{}' is {}, but the pattern has {}", tensor, what, wanted)
            return [] if maker is None else [maker]
        readers = self._readers(match, wanted, tensor) if self.trace is None else self.graph.readers(tensor)
        found = {id(r.node): r.node for r in readers if operator(r.node) in wanted.ops and r.index >= 0}
        taken = {id(n) for n in match.nodes.values()}
        free = [n for i, n in found.items() if i not in taken]
        if not free:
            self._fail(match, "no further {} reads '{}', but the pattern has {}", wanted.op, tensor, wanted)
        return free

    def _readers(self, match: Match, wanted: PatternNode, tensor: str) -> Sequence[Reader]:
        """The readers of a tensor without those that cannot match, because a bound variable has another value there."""
        readers = self.graph.readers(tensor)
        if len(readers) < FEW or wanted.ops & COMMUTATIVE:
            return readers
        for slot, variable in enumerate(wanted.inputs):
            bound = match.tensors.get(variable, ()) if variable not in self.pattern.variadic else ()
            zero = slot == ZERO_POINT and bool(wanted.ops & PAIRS)
            if len(bound) == 1 and bound[0] and bound[0] != tensor and not zero:
                return _by_value(self.graph, (tensor, slot)).get(_mark(self.graph, bound[0]), ())
        return readers

    def node(self, match: Match, index: int, node: Node) -> Iterator[Match]:
        """The ways in which a node matches the pattern's node `index`, given the bound variables."""
        wanted = self.pattern.nodes[index]
        if operator(node) not in wanted.ops:
            self._fail(match, "'{}' is {}, but the pattern has {}", node, operator(node), wanted)
            return
        if any(n is node for n in match.nodes.values()):
            self._fail(match, "'{}' already matches another line than {}", node, wanted)
            return
        attributes = self._attributes(match, wanted, node)
        if attributes is None:
            return
        names = [t.name for t in node.inputs]
        swap = node.op in COMMUTATIVE and len(names) == 2
        orders = [names, names[::-1]] if swap else [names]
        if swap and self.trace is not None:  # of two reasons for which matching stops, the first is kept
            orders.sort(key=lambda inputs: self._constants_first(wanted, inputs))
        for inputs in orders:
            bound = self._bound(match, wanted, node, inputs)
            if bound is not None:
                yield Match(bound, attributes, {**match.nodes, index: node})

    def _constants_first(self, wanted: PatternNode, inputs: Sequence[str]) -> int:
        """The number of inputs that the pattern produces, and that are constants in this order."""
        pattern = zip(wanted.inputs, inputs, strict=False)
        return sum(v in self.pattern.made and self.graph.is_constant(name) for v, name in pattern)

    def _bound(
        self, match: Match, wanted: PatternNode, node: Node, inputs: Sequence[str]
    ) -> dict[str, tuple[str, ...]] | None:
        bound = dict(match.tensors)
        made = [t.name for t in node.outputs]
        for variables, names, kind in ((wanted.inputs, inputs, "input"), (wanted.outputs, made, "output")):
            if self._plain(bound, variables, names):
                continue
            last = len(variables) - 1
            for slot, variable in enumerate(variables):
                rest = variable in self.pattern.variadic and slot == last
                given = tuple(names[slot:]) if rest else (names[slot] if slot < len(names) else "",)
                reason = self._bind(bound, variable, given, wanted, slot if kind == "input" else -1, rest)
                if reason:
                    self._fail(match, "at '{}', for {}: {}", node, wanted, reason)
                    return None
            extra = [] if variables and variables[-1] in self.pattern.variadic else names[len(variables) :]
            unread = [
                n for n in extra if kind == "output" and not self.graph.readers(n) and n not in self.graph.outputs
            ]
            extra = [n for n in extra if n and n not in unread]
            if extra:
                self._fail(
                    match,
                    "'{}' has {} {}s ('{}' …), but the pattern has {}; name the others too, as optional",
                    node,
                    len(variables) + len(extra),
                    kind,
                    extra[0],
                    wanted,
                )
                return None
        return bound

    def _plain(self, bound: dict[str, tuple[str, ...]], variables: Sequence[str], names: Sequence[str]) -> bool:
        """Binds the usual case: as many names as variables, all present, and none bound to another tensor before."""
        if (
            not variables
            or len(variables) != len(names)
            or "" in names
            or "" in variables
            or variables[-1] in self.pattern.variadic
        ):
            return False
        for variable, name in zip(variables, names, strict=True):
            if bound.setdefault(variable, (name,)) != (name,):
                return False
        return True

    def _bind(
        self,
        bound: dict[str, tuple[str, ...]],
        variable: str,
        given: tuple[str, ...],
        wanted: PatternNode,
        slot: int,
        rest: bool,
    ) -> str:
        """Binds a variable; the reason if that is impossible, else ""."""
        if not variable:
            return f"it has an input '{given[0]}' that the pattern omits" if given[0] else ""
        zero = slot == ZERO_POINT and bool(wanted.ops & PAIRS)
        means_zero = zero and "DequantizeLinear" in wanted.ops  # ONNX: a DequantizeLinear without a zero-point
        may_miss = rest or means_zero or variable in self.pattern.optional or variable in bound
        if given[:1] == ("",) and not may_miss:
            return f"it has no '{variable}'; if it may be absent, list it as optional"
        if variable not in bound:
            bound[variable] = given
            return ""
        before = bound[variable]
        if zero and "" in (*before, *given) and all(not n or self._is_zero(n) for n in (*before, *given)):
            bound[variable] = max(before, given)  # the one that is present
            return ""
        if len(before) == len(given) and all(map(same_value, [self.graph] * len(given), before, given)):
            return ""
        shown = [", ".join(f"'{n}'" if n else "nothing" for n in names) for names in (before, given)]
        return f"'{variable}' is already {shown[0]}, but here it is {shown[1]}"

    def _is_zero(self, tensor: str) -> bool:
        value = self.graph.value(tensor)
        return value is not None and not np.any(value)

    def _attributes(
        self, match: Match, wanted: PatternNode, node: Node
    ) -> dict[str, onnx.AttributeProto | None] | None:
        if not wanted.attributes and not wanted.parameters:
            return dict(match.attributes)
        found = dict(match.attributes)
        mine = {a.name: a for a in self.graph.proto(node).attribute}
        for name, literal in wanted.attributes.items():
            given = _value_or_none(mine[name] if name in mine else default_attribute(node, name, self.graph.opset))
            if given != _attribute_value(literal):
                self._fail(
                    match, "'{}' has {} = {}, but the pattern has {}", node, name, given, _attribute_value(literal)
                )
                return None
        for name, variable in wanted.parameters.items():
            given = mine.get(name)
            if variable not in found:
                found[variable] = given
                continue
            before = found[variable]
            if _value_or_none(before) != _value_or_none(given):
                self._fail(
                    match, "'{}': its {} differs from @{}, which is {}", node, name, variable, _value_or_none(before)
                )
                return None
        return found

    def _fail(self, match: Match, text: str, *parts: object) -> None:
        """Notes why matching stops; formats the text only if there is a trace."""
        if self.trace is not None:
            self.trace.note(
                match,
                text.format(*(label(p) if hasattr(p, "op") and not isinstance(p, PatternNode) else p for p in parts)),
            )


def default_attribute(node: Node, name: str, opset: int) -> onnx.AttributeProto | None:
    """ONNX's default of an attribute that the node omits; None if there is none."""
    try:
        default = onnx.defs.get_schema(node.op, opset, node.domain or "").attributes[name].default_value
    except (onnx.defs.SchemaError, KeyError):
        return None
    return default if default.name else None


def _attribute_value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value).tolist()
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else value


def _value_or_none(attribute: onnx.AttributeProto | None) -> Any:
    return None if attribute is None else _attribute_value(attribute)
