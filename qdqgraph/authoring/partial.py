"""How far the pattern of a text rule matches where it does not match: the deepest partial match, as lines."""

from __future__ import annotations

from collections.abc import Iterator

from ..graph.graph import Graph, label
from ..rulekit.text import TextRule
from ..rulekit.text.match import Trace, candidates, matches_at


def partial_lines(rule: TextRule, trace: Trace) -> Iterator[str]:
    """Yields the lines of the pattern, matched or not, and why matching stopped; none if no line matches."""
    if trace.match is None or not trace.match.nodes:
        return
    yield f"the deepest partial match, {len(trace.match.nodes)} of {len(rule.pattern.nodes)} lines:"
    for index, line in enumerate(rule.pattern.nodes):
        matched = trace.match.nodes.get(index)
        yield f"  {'+' if matched is not None else '-'} {line}" + (f"    is '{label(matched)}'" if matched else "")
    yield f"stopped: {trace.reason}"


def deepest(graph: Graph, rule: TextRule) -> tuple[str, ...]:
    """Returns how far a rule matches anywhere in a graph in which it finds nothing; empty for ties by name."""
    trace, lines = Trace(), rule.pattern.nodes
    if not lines:
        return ()
    for start, line in enumerate(lines):
        for node in candidates(graph, line):
            for match in matches_at(graph, rule.pattern, start, node, rule.pattern.order(start), trace):
                rule.stops(graph, match, trace)
    found = tuple(partial_lines(rule, trace))
    if found:
        return found
    if trace.reason:
        return (f"no line of the pattern matches: {trace.reason}",)
    wanted = ", ".join(dict.fromkeys(line.op for line in lines))
    return (f"no line of the pattern matches: the model has none of {wanted}",)
