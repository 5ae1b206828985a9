"""`Pattern`: a subgraph to match, written as an ONNX function.

Parameters are the free variables, outputs are the tensors that must remain. A variable matches one tensor, or one
constant value: exporters write one scale constant per pair, so two constants with the same bytes match the same
variable. The language is that of onnx.parser, extended by the tables `ops`, `optional` and `variadic` of the rule file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import onnx

from ...errors import guess
from ...graph.graph import Node
from ...model.protos import STANDARD, key
from ...model.text import parse_fault
from ...operators import OPERATORS
from ...toml.file import TextError

HEADER = '<domain: "pattern", opset_import: ["" : 17]> '


@dataclass(frozen=True)
class PatternNode:
    """One line of a pattern.

    Attributes:
        label: the name in brackets, else the first output: how a rewrite refers to the node.
        ops: operators that match, as `operator` writes them; several if `op` is a name from the rule file's `ops`.
        op: the operator as written.
        inputs: variables, empty for an omitted optional input.
        outputs: variables.
        attributes: the attributes with a literal value; those that the line does not name may have any value.
        parameters: attribute name → attribute variable (`axis = @axis`).
    """

    label: str
    op: str
    ops: frozenset[str]
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, onnx.AttributeProto]
    parameters: Mapping[str, str]

    def __str__(self) -> str:
        return f"{', '.join(self.outputs)} = {self.op} ({', '.join(self.inputs)})"


@dataclass(frozen=True)
class Step:
    """How matching continues from a bound variable: to its producer, or to one of its readers."""

    node: int
    variable: str
    slot: int
    """The index of the node's input that reads the variable; -1 if the node produces it."""


@dataclass(frozen=True)
class Pattern:
    """A parsed function: its signature and its nodes in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    nodes: tuple[PatternNode, ...]
    optional: frozenset[str] = frozenset()
    variadic: frozenset[str] = frozenset()

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        ops: Mapping[str, Sequence[str]] | None = None,
        optional: Iterable[str] = (),
        variadic: Iterable[str] = (),
        whole: bool = False,
    ) -> Pattern:
        """Reads a function.

        Args:
            ops: names for several operators; optional, variadic: see `rule.schema.json`.
            whole: check that the nodes are connected, as a pattern requires.

        Raises:
            TextError: the text is not a function, names an unknown operator, or uses an undefined variable.
        """
        function = _function(text)
        nodes = tuple(_node(n, ops or {}) for n in function.node)
        for node in nodes:
            for op in sorted(op for op in node.ops if "." not in op):
                _known(op, text, ops or {})
        pattern = cls(
            tuple(function.input),
            tuple(function.output),
            tuple(function.attribute),
            nodes,
            frozenset(optional),
            frozenset(variadic),
        )
        pattern._check(text)
        for start in range(len(nodes)) if whole else ():
            pattern.order(start)
        return pattern

    @cached_property
    def made(self) -> Mapping[str, int]:
        """Variable → the node that produces it."""
        return {v: i for i, n in enumerate(self.nodes) for v in n.outputs if v}

    @property
    def variables(self) -> frozenset[str]:
        """Every variable of the pattern."""
        return frozenset((*self.inputs, *self.made))

    @property
    def inner(self) -> frozenset[str]:
        """Variables that nodes produce and that are not outputs."""
        return frozenset(self.made) - set(self.outputs)

    def order(self, start: int) -> tuple[Step, ...]:
        """The other nodes in an order in which each shares a variable with those before it.

        Data inputs come before scales and zero-points, which hundreds of nodes may share.

        Raises:
            TextError: the pattern falls into parts that share no variable.
        """
        reached, steps = {start}, list[Step]()
        while len(reached) < len(self.nodes):
            step = min(self._next(reached), key=lambda s: (s.slot, s.node), default=None)
            if step is None:
                lost = next(n for i, n in enumerate(self.nodes) if i not in reached)
                raise TextError(f"'{lost}' shares no variable with the rest: connect it, or write a second rule")
            reached.add(step.node)
            steps.append(step)
        return tuple(steps)

    def _next(self, reached: set[int]) -> Iterable[Step]:
        bound = {v for i in reached for v in (*self.nodes[i].inputs, *self.nodes[i].outputs) if v}
        for index, node in enumerate(self.nodes):
            if index in reached:
                continue
            yield from (Step(index, v, -1) for v in node.outputs if v in bound)
            yield from (Step(index, v, slot) for slot, v in enumerate(node.inputs) if v in bound)

    def _check(self, text: str) -> None:
        defined = [*self.inputs, *(v for n in self.nodes for v in n.outputs if v)]
        for name in defined:
            if defined.count(name) > 1:
                raise TextError(f"variable '{name}' is defined twice", _line(text, name))
        read = {v for n in self.nodes for v in n.inputs if v}
        for name in sorted(read - set(defined)):
            raise TextError(
                f"variable '{name}' is not defined: add it to the parameters, or produce it{guess(name, defined)}",
                _line(text, name),
            )
        for name in self.outputs:
            if name not in self.made:
                raise TextError(f"no node of the function produces output '{name}'", _line(text, name))
        for name in self.inputs:
            if name not in read:
                raise TextError(f"parameter '{name}' is never used: remove it", _line(text, name))
        used = {v for n in self.nodes for v in n.parameters.values()}
        for name in sorted(set(self.attributes) ^ used):
            state = "never used" if name in self.attributes else "not declared: declare it in < >"
            raise TextError(f"attribute variable '@{name}' is {state}", _line(text, name))
        for name in sorted(self.variadic & self.variables):
            for node in self.nodes:
                if name in node.inputs[:-1] or (name in node.outputs and len(node.outputs) > 1):
                    raise TextError(
                        f"variadic '{name}' means all remaining inputs or all outputs: put it last in '{node}'",
                        _line(text, name),
                    )


def _function(text: str) -> onnx.FunctionProto:
    stripped = text.lstrip()
    skipped = text[: len(text) - len(stripped)].count("\n")
    try:
        return onnx.parser.parse_function(stripped if stripped.startswith("<") else HEADER + stripped)
    except onnx.parser.ParseError as error:
        detail, line = parse_fault(error)
        raise TextError(
            f"this is not ONNX function text: {detail}; write: pattern (x, s) => (y) {{ y = Relu (x) }}", skipped + line
        ) from error


def operator(node: Node) -> str:
    """The operator of a node as rules write it: "Relu" of the standard domain, "acme.Relu" of another."""
    return operator_name(node.domain, str(node.op))


def operator_name(domain: str | None, op: str) -> str:
    """The same of its domain and type; a name with a domain in it stays."""
    return f"{domain}.{op}" if domain and domain not in STANDARD and "." not in op else op


def _node(proto: onnx.NodeProto, ops: Mapping[str, Sequence[str]]) -> PatternNode:
    return PatternNode(
        label=proto.name or key(proto),
        op=proto.op_type,
        ops=frozenset(operator_name(proto.domain, op) for op in ops.get(proto.op_type, (proto.op_type,))),
        domain="" if proto.domain in STANDARD else proto.domain,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={a.name: a for a in proto.attribute if not a.ref_attr_name},
        parameters={a.name: a.ref_attr_name for a in proto.attribute if a.ref_attr_name},
    )


@cache
def _operators() -> tuple[str, ...]:
    """The operators of ONNX: those of the installed onnx, and those of the table, of which it may be too old."""
    installed = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain in STANDARD}
    return tuple(sorted(installed.union(operator.name for operator in OPERATORS)))


def _known(op: str, text: str, ops: Mapping[str, Sequence[str]]) -> None:
    if not onnx.defs.has(op) and op not in _operators():
        named = [*ops, *_operators()]
        raise TextError(f"ONNX has no operator {op!r}{guess(op, named)}", _line(text, op))


def _line(text: str, word: str) -> int:
    found = re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text)
    return text[: found.start()].count("\n") if found else 0
