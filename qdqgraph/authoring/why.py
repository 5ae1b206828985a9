"""`why`: what a rule does at a tensor, and where it finds nothing, how far it came and which condition failed.

A text rule is matched again with a trace: the deepest partial match and its reason. A Python rule is run again with
its lines followed: the last line that still spoke of the tensor, and the part of its condition that decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import RuleError, guess
from ..graph.graph import Graph, Node, key, label
from ..graph.selectors import select_sites
from ..repair.options import Options
from ..repair.rounds import resolve
from ..rulekit.finding import Finding
from ..rulekit.rule import Rule, scan
from ..rulekit.text import TextRule
from ..rulekit.text.match import Trace, matches_at
from .trace import trace


@dataclass(frozen=True)
class Answer:
    """Whether the rule speaks at the tensor, and why or why not, line by line."""

    speaks: bool
    lines: tuple[str, ...]


def why(graph: Graph, rule: Rule, at: str, rules: Sequence[Rule], options: Options) -> Answer:
    """What `rule` does at the tensor or node `at`, among all `rules`.

    Raises:
        RuleError: the graph has no such tensor or node, or a rule crashed.
    """
    tensor = _tensor(graph, at)
    found = [f for f in scan(graph, [rule]) if tensor in _spoken_of(f)]
    if found:
        together = (rule, *(r for r in rules if r.code != rule.code))
        settled = resolve(graph, scan(graph, together), options)[1]
        places = {f.identity: f for f in found}.values()
        return Answer(True, tuple(line for f in places for line in _outcomes(rule, f, settled)))
    head = f"{rule.code} finds nothing at '{tensor}'"
    lines = _text(graph, rule, tensor) if isinstance(rule, TextRule) else trace(graph, rule, tensor)
    return Answer(False, (head, *lines))


def _tensor(graph: Graph, at: str) -> str:
    """The tensor that is meant: by its name, or by the name of the node that makes it.

    Raises:
        RuleError: there is neither.
    """
    known = [*graph.inputs, *graph.initializers, *(t.name for n in graph.nodes() for t in n.outputs if t.name)]
    if at in known:
        return at
    for node in graph.nodes():
        if at in (node.name, label(node)):
            return key(node)
    raise RuleError(f"the model has no tensor or node {at!r}{guess(at, known)}")


def _spoken_of(finding: Finding) -> set[str]:
    """The tensors that a finding is about: its place, and what its tie joins."""
    return {finding.place, *(finding.tie.sites if finding.tie is not None else ())}


def _outcomes(rule: Rule, finding: Finding, settled: Iterable[Finding]) -> Iterator[str]:
    """What becomes of a finding once the ties of all rules are solved: a line for each that remains at its place."""
    remaining = [other for other in settled if other.identity == finding.identity]
    for other in remaining:
        advice = f"refused: {other.refused}" if other.refused else other.advice
        yield "; ".join(filter(None, (f"{rule.code} applies here: {other.message}", other.price, advice)))
    if not remaining and finding.tie is not None:
        sites = ", ".join(f"'{s}'" for s in finding.tie.sites)
        yield f"{rule.code} asks for one scale of {sites}; they have it, or none of them has one: no finding"
    elif not remaining:
        yield f"{rule.code} applies here, but unequal scales around it are the cause and are reported instead"


def _text(graph: Graph, rule: TextRule, tensor: str) -> Iterator[str]:
    """How far a text rule comes: the lines of its pattern that match, and what stops the next."""
    if not rule.pattern.nodes:
        for kind, _, name in (named for _, tie in rule.ties for named in tie.named()):
            yield f"it ties other tensors: {kind} {name!r} stands for {_few(select_sites(graph, kind, name))}"
        return
    trace = Trace()
    for start, node in _starts(graph, rule, tensor):
        for match in matches_at(graph, rule.pattern, start, node, rule.pattern.order(start), trace):
            if not rule.stops(graph, match, trace):
                place = match.tensor(rule.at)
                yield f"the tensor is part of a match, which is reported at '{place}'"
                return
    if trace.match is None:
        yield f"no line of the pattern speaks of it: {_around(graph, tensor)}; the pattern is"
        yield from (f"    {line}" for line in rule.pattern.nodes)
        return
    count = len(trace.match.nodes)
    yield f"the deepest partial match, {count} of {len(rule.pattern.nodes)} lines:"
    for index, line in enumerate(rule.pattern.nodes):
        matched = trace.match.nodes.get(index)
        yield f"  {'+' if matched is not None else '-'} {line}" + (f"    is '{label(matched)}'" if matched else "")
    yield f"stopped: {trace.reason}"


def _starts(graph: Graph, rule: TextRule, tensor: str) -> Iterator[tuple[int, Node]]:
    """Lines of the pattern with the nodes at the tensor that can stand for them: its maker, then its readers."""
    maker = graph.producer(tensor)
    nodes = ([maker] if maker is not None else []) + [r.node for r in graph.readers(tensor)]
    for node in nodes:
        for index, line in enumerate(rule.pattern.nodes):
            if node.op in line.ops:
                yield index, node


def _around(graph: Graph, tensor: str) -> str:
    maker = graph.producer(tensor)
    readers = ", ".join(dict.fromkeys(str(r.node.op) for r in graph.readers(tensor))) or "nothing"
    return (
        f"'{tensor}' is {f'made by {maker.op}' if maker is not None else 'no result of a node'} and read by {readers}"
    )


def _few(names: Sequence[str]) -> str:
    return (
        ", ".join(f"'{n}'" for n in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "nothing"
    )
