"""`why`: explains what a rule does at a tensor; if it finds nothing, how far it got and which condition failed.

A text rule is matched again with a trace, which gives the deepest partial match and why it stopped. A Python rule is
run again line by line, which gives the condition that discarded the tensor; it is said in words, with what the rule
looks for and what the tensor is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..errors import RuleError, guess
from ..graph.graph import Graph, Node, key, label
from ..graph.pair import pairs
from ..graph.selectors import select_sites
from ..repair.options import Options
from ..repair.resolve import resolve
from ..rulekit.catalog import builtin_folder
from ..rulekit.finding import Finding
from ..rulekit.rule import Counterexample, Documentation, Rule, scan
from ..rulekit.text import TextRule
from ..rulekit.text.captures import instances
from ..rulekit.text.match import Trace, matches_at
from ..rulekit.text.pattern import operator
from .partial import partial_lines
from .trace import source_lines, stop
from .words import condition_words, place_words

SEVERAL = 20
"""Most tensors of a glob that are explained."""


@dataclass(frozen=True)
class Answer:
    """The explanation of what a rule does at a tensor.

    Attributes:
        applies: whether the rule reports the tensor.
        lines: why, or why not.
    """

    applies: bool
    lines: tuple[str, ...]


def why(graph: Graph, rule: Rule, at: str, rules: Sequence[Rule], options: Options, *, trace: bool = False) -> Answer:
    """Returns what `rule` does at the tensor or node `at`, together with all `rules`.

    Args:
        graph: the graph.
        rule: the rule to explain.
        at: the name of a tensor or node, or a glob on such names.
        rules: all rules of the run.
        options: the settings of the run.
        trace: for the author of a Python rule: also the line of its file that discarded the tensor.

    Raises:
        RuleError: the graph has no such tensor or node, or a rule crashed.
    """
    tensors = _named(graph, at)
    if len(tensors) > 1:
        answers = [why(graph, rule, tensor, rules, options, trace=trace) for tensor in tensors[:SEVERAL]]
        more = [f"and {len(tensors) - SEVERAL} more tensors"] if len(tensors) > SEVERAL else []
        lines = (line for answer in answers for line in answer.lines)
        return Answer(any(a.applies for a in answers), (*lines, *more))
    (tensor,) = tensors
    found = [f for f in scan(graph, [rule]) if tensor in _tensors(graph, f)]
    if found:
        together = (rule, *(r for r in rules if r.code != rule.code))
        settled = resolve(graph, scan(graph, together), options)[1]
        places = {f.identity: f for f in found}.values()
        reported = any(other.identity == f.identity for f in places for other in settled)
        return Answer(reported, tuple(line for f in places for line in _outcomes(rule, f, settled)))
    head = f"{rule.code} finds nothing at '{tensor}'"
    said = _text(graph, rule, tensor) if isinstance(rule, TextRule) else _python(graph, rule, tensor, trace)
    return Answer(False, (head, *said))


def _named(graph: Graph, at: str) -> list[str]:
    """Returns the tensors of a name, of the name of their producer, or of a glob on such names.

    Raises:
        RuleError: the graph has neither a tensor nor a node of that name.
    """
    known = [*graph.inputs, *graph.initializers, *(t.name for n in graph.nodes() for t in n.outputs if t.name)]
    if at in known:
        return [at]
    for node in graph.nodes():
        if at in (node.name, label(node)):
            return [key(node)]
    globbed = [name for name in known if fnmatchcase(name, at)]
    globbed += [key(node) for node in graph.nodes() if node.name and fnmatchcase(node.name, at)]
    if globbed:
        return list(dict.fromkeys(globbed))
    raise RuleError(f"the model has no tensor or node {at!r}{guess(at, known)}")


def _tensors(graph: Graph, finding: Finding) -> set[str]:
    """Returns the tensors of a finding: its place, the tensor of a pair that is the place, and the sites of its tie."""
    node = graph.producer(finding.place)
    pair = None if node is None else pairs(graph).of(node)
    quantized = () if pair is None else (pair.tensor,)
    return {finding.place, *quantized, *(finding.tie.sites if finding.tie is not None else ())}


def _outcomes(rule: Rule, finding: Finding, settled: Iterable[Finding]) -> Iterator[str]:
    """Yields a line for each finding that remains at the place of `finding` once the ties of all rules are solved."""
    remaining = [other for other in settled if other.identity == finding.identity]
    for other in remaining:
        advice = f"refused: {other.refused}" if other.refused else other.advice
        yield "; ".join(filter(None, (f"{rule.code} applies here: {other.message}", other.price, advice)))
    if not remaining and finding.tie is not None:
        sites = ", ".join(f"'{s}'" for s in finding.tie.sites)
        yield f"{rule.code} requires one scale for {sites}; they share one already, or have none: no finding"
    elif not remaining:
        yield f"{rule.code} applies here, but the cause is a group with unequal scales, which is reported instead"


def _text(graph: Graph, rule: TextRule, tensor: str) -> Iterator[str]:
    """Yields how far a text rule matches: the matching lines of its pattern, and why the next line does not match."""
    if not rule.pattern.nodes:
        bound = (each for _, tie in rule.ties for each in instances(graph, tie) or (tie,))
        for kind, _, name in (named for tie in bound for named in tie.named()):
            yield f"it ties other tensors: {kind} {name!r} matches {_few(select_sites(graph, kind, name))}"
        return
    traces: dict[int, Trace] = {}
    for role, start, node in _starts(graph, rule, tensor):
        trace = traces.setdefault(role, Trace())
        for match in matches_at(graph, rule.pattern, start, node, rule.pattern.order(start), trace):
            if not rule.stops(graph, match, trace):
                place = match.tensor(rule.at)
                yield f"the tensor is part of a match, which is reported at '{place}'"
                return
    reached = (traces[role] for role in sorted(traces) if traces[role].match is not None)
    lines = tuple(partial_lines(rule, next(reached, Trace())))
    if not lines:
        yield f"no line of the pattern matches: {_around(graph, tensor)}; the pattern is"
        yield from (f"    {line}" for line in rule.pattern.nodes)
    yield from lines


def _python(graph: Graph, rule: Rule, tensor: str, trace: bool) -> Iterator[str]:
    """Yields what a Python rule looks for, which condition discarded the tensor, and what the tensor is."""
    yield f"it looks for: {Documentation.of(rule).summary}"
    found = stop(graph, rule, tensor)
    words = [] if found is None else list(condition_words(found))
    if words:
        yield "here it stops because"
        yield from (f"  {line}" for line in words)
    else:
        yield "it does not report this tensor; it reports, for example:"
        yield from (f"  {example.title}" for example in rule.examples if not isinstance(example, Counterexample))
    yield from place_words(graph, tensor)
    if trace and found is not None and not rule.file.resolve().is_relative_to(builtin_folder().resolve()):
        yield from source_lines(found)


def _starts(graph: Graph, rule: TextRule, tensor: str) -> Iterator[tuple[int, int, Node]]:
    """Yields each pattern line with the nodes at the tensor that may match it, and the role of the tensor: 0 if the
    line produces it, 1 if the line consumes it."""
    producer = graph.producer(tensor)
    for index, line in enumerate(rule.pattern.nodes):
        if producer is not None and operator(producer) in line.ops:
            yield 0, index, producer
    for node in (r.node for r in graph.readers(tensor)):
        for index, line in enumerate(rule.pattern.nodes):
            if operator(node) in line.ops:
                yield 1, index, node


def _around(graph: Graph, tensor: str) -> str:
    producer = graph.producer(tensor)
    consumers = ", ".join(dict.fromkeys(str(r.node.op) for r in graph.readers(tensor)))
    source = f"produced by {producer.op}" if producer is not None else "a graph input or initializer"
    return f"'{tensor}' is {source} and {f'is consumed by {consumers}' if consumers else 'has no consumer'}"


def _few(names: Sequence[str]) -> str:
    return (
        ", ".join(f"'{n}'" for n in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "nothing"
    )
