"""`TextRule`: a rule read from a TOML file. The file is data: nothing in it is executed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from msgspec import UNSET

from ...errors import counted
from ...graph.graph import Graph
from ...graph.named import NamedSite, named_sites
from ...graph.pair import pairs
from ...graph.selectors import KINDS, merged, nearest, select_paths
from ...graph.sites import scales_at
from ...toml.file import TomlFile
from ...toml.place import Place
from ..finding import Finding, Safety, Severity, Tie
from ..policy import Policy
from ..rule import Counterexample, Example, Rule
from . import categories
from .captures import check as check_captures
from .captures import instances
from .computed import Computed
from .conditions import Alternatives
from .form import RuleForm, TieTable
from .match import Match, Trace, matches
from .message import Message
from .pattern import Pattern, operator_name
from .rewrite import Rewrite

NamedTie = tuple[Place, TieTable, tuple[NamedSite, ...]]
"""A tie by name in one graph: its place in the file, its table, and the sites that it names."""


class TextRule(Rule):
    """A rule from a TOML file, with the documentation in the file."""

    def __init__(self, path: Path) -> None:
        """Reads a rule file.

        Raises:
            RuleError: with file, line, what is wrong and what to write.
        """
        self.source = TomlFile(path, RuleForm)
        data = self.source.data
        self.file = path
        self.code, self.name, self.safety = data.code, data.name, Safety(data.safety)
        self.severity, self.quantized = Severity(data.severity), data.quantized
        self.__doc__ = _documentation(data)
        self.examples = (
            *(Example(e.title, e.before, e.after or None) for e in data.example),
            *(Counterexample(e.title, e.model) for e in data.counterexample),
        )
        self.ties = _ties(data)
        self.ops = categories.read(self.source, data.ops)
        self.pattern = self._pattern(data)
        self.rewrite = self._rewrite(data)
        self.where = tuple(
            self.source.read(("where", i), Alternatives.parse, text, self.pattern) for i, text in enumerate(data.where)
        )
        self.tied = self._tied(data)
        self.at = self._variable("at", data.at) or next(iter(self.pattern.outputs), "")
        self.cost = self._variable("cost", data.cost)
        self.message = self._message("message", data.message, data.summary.rstrip("."))
        self.help = self._message("help", data.help, "")
        self._sites_of: tuple[NamedTie, ...] | None = None

    @property
    def anchor(self) -> int:
        """The node of the pattern from which matching starts: the producer of `at`."""
        return self.pattern.made[self.at]

    def place_of(self, example: Example | Counterexample) -> str:
        """The file and the line of an example."""
        kind = "example" if isinstance(example, Example) else "counterexample"
        index = [e for e in self.examples if type(e) is type(example)].index(example)
        return f"{self.file}:{self.source.line((kind, index))}"

    def handles(self, domain: str, name: str) -> bool:
        """Whether `quantized`, the pattern or a condition names the operator."""
        mine = frozenset[str]().union(*(n.ops for n in self.pattern.nodes), *(line.operators for line in self.where))
        return super().handles(domain, name) or operator_name(domain, name) in mine

    def find(self, graph: Graph) -> Iterator[Finding]:
        """One finding per match, or per tie by name."""
        seen: set[object] = set()
        for match in self.matches(graph):
            sites = self._sites(graph, match)
            mark = (match.tensor(self.at), sites)
            if mark not in seen and (not self.tied or _unequal(graph, sites)):
                seen.add(mark)
                yield self._found(graph, match, sites)
        if not self.tied:
            known = self._look_up(graph) if self._sites_of is None else self._sites_of
            for place, tie, named in known:
                yield from self._named(graph, place, tie, named)

    def resolved(self, graph: Graph) -> Rule:
        """The rule with its ties by name bound to sites of this graph.

        Raises:
            RuleError: a name matches nothing.
        """
        if self.tied or not self.ties:
            return self
        bound = copy.copy(self)
        bound._sites_of = self._look_up(graph)
        return bound

    def sites_of_paths(self, graph: Graph) -> Mapping[str, tuple[str, ...]]:
        """The PyTorch paths of the sites, with what they are in a repaired graph."""
        found: dict[str, dict[str, None]] = {}
        for named in (site for _, _, sites in self._sites_of or () for site in sites):
            site = named.now(graph)
            for path in named.paths if site is not None else ():
                found.setdefault(path, {})[str(site)] = None
        return {path: tuple(sites) for path, sites in found.items()}

    def matches(self, graph: Graph) -> Iterator[Match]:
        """The matches of the pattern for which every condition holds; for a rewrite, only the first at each node."""
        if not all(any("." in op for op in n.ops) or graph.nodes(*n.ops) for n in self.pattern.nodes):
            return
        for group in matches(graph, self.pattern, self.anchor) if self.pattern.nodes else ():
            fitting = (match for match in group if not self.stops(graph, match))
            yield from fitting if self.rewrite is None else islice(fitting, 1)

    def stops(self, graph: Graph, match: Match, trace: Trace | None = None) -> str:
        """Why a match does not count: the first condition that fails; "" if all hold."""
        for number, condition in enumerate(self.where, start=1):
            if reason := condition.fails(graph, match):
                reason = f"`{condition.text}` does not hold: {reason}"
                if trace is not None:
                    trace.note(match, reason, number)
                return reason
        reason = "" if self.rewrite is None else self.rewrite.refuses(graph, match)
        if reason and trace is not None:
            trace.note(match, reason, len(self.where) + 1)
        return reason

    def _found(self, graph: Graph, match: Match, sites: tuple[str, ...]) -> Finding:
        return self.finding(
            match.nodes[self.anchor],
            self.message.fill(graph, match, sites),
            help=self.help.fill(graph, match, sites),
            bytes=4 * graph.elements(match.tensor(self.cost)) if self.cost else 0,
            tie=_tie(sites, self.ties[0][1]) if self.tied else None,
            edits=[] if self.rewrite is None else [self.rewrite.graft(graph, match)],
            place=match.tensor(self.at),
        )

    def _sites(self, graph: Graph, match: Match) -> tuple[str, ...]:
        tensors = [pairs(graph).root(t) for variable in self.tied for t in match.tensors[variable] if t]
        return tuple(dict.fromkeys(t for t in tensors if not graph.is_constant(t)))

    def _look_up(self, graph: Graph) -> tuple[NamedTie, ...]:
        """The ties of the file over the sites that they name in a graph; one with captures means several.

        Raises:
            RuleError: a name matches nothing, and is required.
        """
        found: list[NamedTie] = []
        for place, tie in self.ties:
            for bound in instances(graph, tie) or (tie,):
                sites = [site for names in tie.named() for site in self._sites_named(graph, place, tie, bound, names)]
                found.append((place, bound, tuple(sites)))
        return tuple(found)

    def _sites_named(
        self, graph: Graph, place: Place, tie: TieTable, bound: TieTable, named: tuple[str, int, str]
    ) -> tuple[NamedSite, ...]:
        kind, index, written = named
        name = str(getattr(bound, kind)[index])
        sites = named_sites(graph, kind, name)
        if not sites and tie.required:
            what = repr(written) if name == written else f"{written!r} as {name!r}"
            self.source.fail(
                (*place, kind, index),
                f"{kind} {what} matches nothing in this model{nearest(graph, kind, name) or '.'} "
                "If it may be absent, write required = false in this tie",
            )
        return sites

    def _named(self, graph: Graph, place: Place, tie: TieTable, known: Sequence[NamedSite]) -> Iterator[Finding]:
        """The finding of a tie over sites that the file lists by name."""
        sites = tuple(dict.fromkeys(site for named in known if (site := named.now(graph)) is not None))
        if _unequal(graph, sites):
            line, tensors = self.source.line(place), counted(len(sites), "tensor")
            message = f"{self.file.name}:{line} ties {tensors} with different scales: "
            at = graph.producer(sites[0]) or graph.readers(sites[0])[0].node
            message += scales_at(graph, sites) + "".join(_merged(graph, tie, sites))
            yield self.finding(at, message, tie=_tie(sites, tie), place=sites[0])

    # Reading

    def _pattern(self, data: RuleForm) -> Pattern:
        """The pattern; an empty one if the rule lists ties by name."""
        if not data.pattern:
            if not any(tie.named() for _, tie in self.ties):
                self.source.fail((), "a rule needs a `pattern`, or ties that name tensors, nodes or quantizers")
            for key in ("rewrite", "compute", "where", "at", "cost", "optional", "variadic", "ops", "message", "help"):
                if key in self.source.table:
                    self.source.fail((key,), f"`{key}` needs a `pattern`, and there is none")
            return Pattern((), (), (), ())
        kinds = {"optional": data.optional, "variadic": data.variadic}
        pattern = self.source.read(("pattern",), Pattern.parse, data.pattern, ops=self.ops, whole=True, **kinds)
        for kind, names in kinds.items():
            for index, name in enumerate(names):
                if name not in pattern.variables:
                    self.source.fail((kind, index), f"{kind} names {name!r}, which is not a variable of the pattern")
        return pattern

    def _rewrite(self, data: RuleForm) -> Rewrite | None:
        if data.rewrite and self.ties:
            self.source.fail(("tie",), "a rule has a `rewrite` or ties, not both: write two rules")
        proposes = bool(data.rewrite or self.ties)
        if proposes == (self.safety is Safety.MANUAL):
            self.source.fail(
                ("safety",),
                f"safety is {self.safety.value!r}, but the rule proposes {'a repair' if proposes else 'nothing'}: "
                f"write {'exact or lossy' if proposes else 'manual'}",
            )
        if not data.rewrite:
            if data.compute:
                self.source.fail(("compute",), "`compute` needs a `rewrite` that reads its constants")
            return None
        return self.source.read(("rewrite",), Rewrite.parse, data.rewrite, self.pattern, self.ops, self._computed(data))

    def _computed(self, data: RuleForm) -> dict[str, Computed]:
        """The constants that the rewrite computes."""
        single = sorted(self.pattern.variables - self.pattern.variadic)
        for name in data.compute:
            if not name.isidentifier() or name in self.pattern.variables:
                self.source.fail(("compute", name), f"compute names {name!r}; write a new name of letters and digits")
        return {v: self.source.read(("compute", v), Computed.parse, text, single) for v, text in data.compute.items()}

    def _tied(self, data: RuleForm) -> tuple[str, ...]:
        """The variables that the pattern's tie joins; none if the ties name their sites."""
        for place, tie in self.ties:
            if tie.policy:
                self.source.read((*place, "policy"), Policy.parse, tie.policy)
            self.source.read(place, check_captures, tie)
            if not tie.sites and not tie.named():
                self.source.fail(place, f"the tie names no sites: write sites, {', '.join(KINDS)}")
            if bool(tie.sites) != bool(data.pattern):
                what = "without a pattern: name tensors, nodes or quantizers" if tie.sites else "next to a pattern"
                self.source.fail(place, f"this tie is {what}" + ("" if tie.sites else ": write `sites`"))
            if tie.sites and (len(self.ties) > 1 or tie.named()):
                self.source.fail(place, "a pattern has one tie, over its variables: move the names to another rule")
            for index, name in enumerate(tie.sites):
                if name not in self.pattern.variables:
                    self.source.fail((*place, "sites", index), f"{name!r} is not a variable of the pattern")
        return tuple(v for _, tie in self.ties for v in tie.sites)

    def _variable(self, key: str, name: str) -> str:
        if name and name not in self.pattern.variables:
            self.source.fail((key,), f"{key} names {name!r}, which is not a variable of the pattern")
        if key == "at" and name and name not in self.pattern.made:
            self.source.fail((key,), f"at names the parameter {name!r}; name an output of a node of the pattern")
        return name

    def _message(self, key: str, text: str, default: str) -> Message:
        if not text:
            return Message.plain(default)
        return self.source.read((key,), Message.parse, text, self.pattern)


def _ties(data: RuleForm) -> tuple[tuple[Place, TieTable], ...]:
    """The ties, [tie] or [[tie]], with their places in the file."""
    if isinstance(data.tie, TieTable):
        return ((("tie",), data.tie),)
    return tuple((("tie", i), tie) for i, tie in enumerate(data.tie))


def _merged(graph: Graph, tie: TieTable, sites: Sequence[str]) -> Iterator[str]:
    """Says of each name in `quantizers` how many quantizers it matches, if an exporter merged others."""
    for name in tie.quantizers:
        for site, module, other in (entry for entry in merged(graph, name) if entry[0] in sites):
            count = counted(len(select_paths(graph, name)), "quantizer")
            yield f"; {name!r} matches {count}, and {module} reads '{site}' through {other}, merged with its own"


def _unequal(graph: Graph, sites: Sequence[str]) -> bool:
    """Whether a tie over these sites can have an effect: they are several, or one with several pairs."""
    return len(sites) > 1 or any(len(pairs(graph).at(site)) > 1 for site in sites)


def _tie(sites: tuple[str, ...], tie: TieTable) -> Tie:
    return Tie(sites, tie.policy or None, None if tie.max_bits_lost is UNSET else tie.max_bits_lost)


def _documentation(data: RuleForm) -> str:
    parts = [data.summary.strip(), "", f"Why: {' '.join(data.why.split())}"]
    if data.source:
        parts.append("Source: " + ", ".join(data.source))
    if data.when_not:
        parts.append(f"When not: {' '.join(data.when_not.split())}")
    return "\n".join(parts)
