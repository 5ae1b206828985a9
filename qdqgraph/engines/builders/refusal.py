"""Explains a TensorRT parser error: the node, the legality rule, and what `fix` would do.

The parser names a node and quotes its own source code. The legality rules check the same graph and describe the fault;
the text of the parser only selects among their findings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...graph.graph import Graph, Node, key, label
from ...graph.pair import pairs
from ...rulekit.finding import Finding, Severity
from .how import ParserError

WORDS = (
    (re.compile(r"shiftIsAllZeros|zero.?point is not", re.IGNORECASE), ("QDQ401", "QDQ402")),
    (re.compile(r"must have type .*Int8|uint8", re.IGNORECASE), ("QDQ406", "QDQ402")),
    (re.compile(r"scaleAllPositive|scale coefficients", re.IGNORECASE), ("QDQ403",)),
    (re.compile(r"axis", re.IGNORECASE), ("QDQ405", "QDQ404")),
    (re.compile(r"importer|plugin|check\w*Linear|^false$", re.IGNORECASE), ("QDQ407",)),
)
"""Patterns of parser messages, and the rules that find the same fault."""


@dataclass(frozen=True)
class Refusal:
    """A node that TensorRT refuses.

    Attributes:
        node: name of the node in messages.
        text: message of the parser.
        finding: the finding of a rule on the same node; None if no rule reports it.
    """

    node: str
    text: str
    finding: Finding | None

    @property
    def sentence(self) -> str:
        """The refusal as one line."""
        found = self.finding
        if found is None:
            return f"{self.node}: no rule of qdqgraph covers this error: {self.text}"
        fix = f"fix would: {found.advice}" if found.repairable else f"fix reports it and writes nothing: {found.help}"
        return f"{self.node}: {found.code} {found.message}; {fix}"


def explain(graph: Graph, errors: Sequence[ParserError], findings: Sequence[Finding]) -> tuple[Refusal, ...]:
    """Returns each parser error with the matching finding of the rules on the same graph."""
    illegal = [f for f in findings if f.severity is Severity.ERROR]
    return tuple(_refusal(graph, error, illegal) for error in errors)


def _refusal(graph: Graph, error: ParserError, illegal: Sequence[Finding]) -> Refusal:
    node = _node(graph, error)
    text = " ".join(error.text.split())[:300]
    said = label(node) if node is not None else error.name or f"node {error.node}"
    near = _names(graph, node) if node is not None else {error.name}
    here = [f for f in illegal if f.place in near or f.node in near]
    codes = [code for words, found in WORDS if words.search(f"{text} {error.function}") for code in found]
    ranked = sorted(here, key=lambda f: codes.index(f.code) if f.code in codes else len(codes))
    return Refusal(said, text, ranked[0] if ranked else None)


def _node(graph: Graph, error: ParserError) -> Node | None:
    """Returns the node of a parser error: by its name if that is unique, otherwise by its index in the file."""
    named = [n for n in graph.nodes() if error.name and n.name == error.name]
    if len(named) == 1:
        return named[0]
    nodes = graph.nodes()
    found = nodes[error.node] if 0 <= error.node < len(nodes) else None
    return found if found is not None and error.operator in ("", found.op) else (named[0] if named else None)


def _names(graph: Graph, node: Node) -> set[str]:
    """Returns all names that a finding may use for a node: its own, its tensors', and those of its pair."""
    pair = pairs(graph).of(node)
    members = (node, *pair.nodes) if pair is not None else (node,)
    tensors = {t.name for n in members for t in (*n.inputs, *n.outputs)}
    return {x for x in tensors | {name for n in members for name in (label(n), key(n))} if x}
