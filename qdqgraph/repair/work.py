"""`Work`: the stages and rounds of a repair: scan → findings → solve → carry out on a draft, until nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import onnx

from ..errors import ModelError, RepairError
from ..graph.graph import Graph
from ..graph.pair import bits_lost, pairs
from ..log import LOG, Progress, log_step
from ..model.content import same
from ..model.distinct import distinct
from ..proposals.proposal import Graft, Retype
from ..rulekit.finding import Finding, Safety, Severity
from ..rulekit.rule import Rule, scan
from .applied import told
from .carry_out import carry_out
from .corrections import Correction, Corrections, correct
from .draft import with_entries
from .gate import BARE, is_bare, was_bared
from .growth import Growth
from .guard import Judge, Outcome, Reasons, Unjudged, guarded
from .measured import Measured
from .options import Options
from .paths import record_paths
from .plan import Plan
from .repair import FloatLayer, Repair
from .requests import best_scales, best_weights
from .resolve import NO_DATA, Data, resolve, solved
from .seed import nothing, seeds
from .solution import Change, Solution
from .solver import held_ties
from .start import Start

ROUNDS = 20
"""The limit of rounds; four are usual. A rule that proposes edits in every round is a defect."""
UNJUDGED = Unjudged()
CALIBRATION = "qdqgraph.calibration"
"""The metadata_props key that says which data and method the scales come from."""

Measure: TypeAlias = Callable[[Graph], Measured]
"""Measures the sites of a graph on data; the runtime that does it is not on the floor of this module."""

Stage = Literal["exact", "legal", "all"]
STAGES: dict[Stage, str] = {"exact": "exact repairs", "legal": "legality", "all": "lossy repairs"}


class Work:
    """Runs rounds of repairs and records what they applied."""

    def __init__(
        self,
        rules: Sequence[Rule],
        options: Options,
        progress: Progress = log_step,
        judge: Judge = UNJUDGED,
        measure: Measure | None = None,
        floats: bool = False,
    ) -> None:
        self.measure, self._unseeded = measure, floats
        self.rules, self.options, self.progress, self.judge = rules, options, progress, judge
        self.applied: list[Finding] = []
        self.changes: dict[str, Change] = {}
        self.refused: Reasons = {}
        self.floats: tuple[FloatLayer, ...] = ()
        self.found: tuple[Finding, ...] = ()
        """The findings before the first round."""
        self.data = NO_DATA
        self.corrections: tuple[Correction, ...] = ()
        self._left_out: Reasons = {}
        self._legal: Graph | None = None
        """The graph before scales from data."""
        self._scanned: tuple[Graph, tuple[Finding, ...]] | None = None
        self._settled: list[tuple[Sequence[Finding], Data, object, tuple[Solution, tuple[Finding, ...]]]] = []

    def run(self, start: Start) -> tuple[Graph, Graph]:
        """Repairs the graph of a start; returns the graphs after the exact and the last stage.

        Raises:
            RuleError: a rule crashed, or names something that the graph does not have.
            RepairError: the rounds do not end (QDQ904, QDQ905).
            ModelError: no layer of a float graph can be quantized.
        """
        graph, given = start.graph, start.given
        LOG.debug("%d activation pairs", len(start.pairs))  # counted here, before the tables of the graph are freed
        self.resolve(graph)
        if not self._unseeded and self._scanned is None:  # `knows` comes from a caller who has examined the graph
            first = given or graph
            self.found = self.settled(first, {})[1]
        exact, final = self.stages(graph)
        for _ in range(ROUNDS if self.refused else 0):  # a second run would try again on the repaired graph
            last, final = final, self.stages(final)[1]
            if final is last:
                break
        return exact, final

    def knows(self, graph: Graph, found: tuple[Finding, ...]) -> None:
        """Takes the findings of the rules in a graph, so that it is not scanned again."""
        self._scanned = (graph, found)

    def left(self, final: Graph) -> tuple[Finding, ...]:
        """Returns the findings that remain in the repaired graph, each refused one with its reason."""
        return self.settled(final, self.refused)[1]

    def stages(self, graph: Graph) -> tuple[Graph, Graph]:
        """Runs the stages, without what makes the engine worse; returns the graphs after the exact and the last one."""
        self.refused = {}
        exact = self.guarded(graph, "exact")
        if self.options.exact:
            return exact, exact
        legal = self.rounds(exact, "legal")
        if self.measure is None or self.data.measured is not None:  # a run measures once
            return exact, self.guarded(legal, "all")
        measured, self._legal = self.measure(legal), legal
        if self._unseeded:
            legal = self.seeded(legal, measured)
        return exact, self.refined(self.guarded(self.calibrated(legal, measured), "all"))

    def resolve(self, graph: Graph) -> None:
        """Looks up the sites that rules name in the graph before the first round; repairs may merge what has the names.

        Raises:
            RuleError: a rule names something that the graph does not have.
        """
        self.rules = [rule.resolved(graph) for rule in self.rules]

    def with_paths(self, graph: Graph) -> Graph:
        """The repaired graph; PyTorch paths that its rules name and its nodes have no longer are in its metadata."""
        for rule in self.rules:
            graph = record_paths(graph, rule.sites_of_paths(graph))
        return graph

    def seeded(self, graph: Graph, measured: Measured) -> Graph:
        """Places the first pairs of a float graph.

        Raises:
            ModelError: no layer can be quantized.
        """
        found = seeds(graph, measured, self.options)
        self.floats, self.data = found.floats, Data(measured)
        if not found.findings:
            raise ModelError(nothing(found.floats))
        return self.requested(graph, found.findings)

    def calibrated(self, graph: Graph, measured: Measured) -> Graph:
        """Unless the scales are kept, gives each pair the best scale of its site."""
        self.data = Data(measured, held_ties(graph, self.scan(graph)))
        return graph if self.options.keep_scales else self.best(graph, measured)

    def refined(self, graph: Graph) -> Graph:
        """The graph with scales of its groups that have the least error at the layers that read them; the given graph
        if the outputs are worse with these."""
        known, done, changes, refused = self.data, tuple(self.applied), dict(self.changes), self.refused
        final = self.guarded(self.at_layers(graph), "all")
        assert known.measured is not None
        if final is graph or self.data is known or not known.measured.worse(graph, final):
            return final
        self.data, self.applied, self.changes, self.refused = known, [*done], changes, refused
        return graph

    def at_layers(self, graph: Graph) -> Graph:
        """Measures the scales of the final groups again, at the layers that read them."""
        if self.data.measured is None or self.options.keep_scales:
            return graph
        found = self.scan(graph)
        solution, _ = resolve(graph, found, self.options, refused=self.refused, data=self.data)
        groups = [group.sites for group in solution.groups]
        inside = {site for sites in groups for site in sites}
        groups += [(s,) for s in dict.fromkeys(p.site for p in pairs(graph) if p.tieable) if s not in inside]
        measured = self.data.measured.refined(graph, groups)
        if measured is self.data.measured:
            return graph
        self.data = Data(measured, held_ties(graph, found) | self.data.held)
        return self.best(graph, measured)

    def best(self, graph: Graph, measured: Measured) -> Graph:
        """Gives each pair within the options' reach the best scale of its site; those of groups follow as ties. Weights
        get the best scales for their values."""
        solution, _ = resolve(graph, self.scan(graph), self.options, refused=self.refused, data=self.data)
        better = (*best_scales(graph, measured, solution), *best_weights(graph, measured))
        asked = [f for f in better if self.options.covers(f)]
        model, done = carry_out(graph, solved(graph, (), self.options, True, self.data), asked, exact=True)
        return Graph(model, graph.folder, known=graph, target=graph.target) if done else graph

    def guarded(self, graph: Graph, stage: Stage) -> Graph:
        """Runs the rounds of a stage without the repairs that make the engine worse, and notes these in `refused`."""
        scanned = (graph, self.scan(graph))
        illegal = [f for f in scanned[1] if f.severity is Severity.ERROR and f.tie is None]
        applied, changes = tuple(self.applied), dict(self.changes)

        def attempt(refused: Reasons) -> Outcome:
            self.applied, self.changes, self._left_out, self._scanned = [*applied], {**changes}, refused, scanned
            after = self.rounds(graph, stage)
            return Outcome(after, tuple(self.applied[len(applied) :]), self.changes, self._scanned)

        def asked(verdict: Callable[..., Reasons], outcome: Outcome) -> Reasons:
            reasons = verdict(graph, outcome.graph, outcome.applied, illegal)
            return {known: why for known, why in reasons.items() if known[0] not in self.options.also}

        refuse, doubt = partial(asked, self.judge.refuse), partial(asked, self.judge.doubt)
        outcome, refused = guarded(attempt, refuse, doubt, self.judge.better)
        self.applied, self.changes = [*applied, *outcome.applied], dict(outcome.changes)
        self._scanned = outcome.scanned
        for (code, place), why in refused.items():
            LOG.debug("%s: refused %s at %r: %s", STAGES[stage], code, place, why)
        self._left_out, self.refused = {}, {**self.refused, **refused}
        return outcome.graph

    def rounds(self, graph: Graph, stage: Stage) -> Graph:
        """Runs rounds until no proposal of the stage is left; returns the last graph.

        The bit-exact repairs come first. The stage "legal" repairs what TensorRT refuses, and what is repaired on
        request, so that measured scales and ties see every pair of the final network. The stage "all" unifies the
        scales.
        """
        done: list[Finding] = []
        keep, growth = stage != "all", Growth(graph)
        for number in range(1, ROUNDS + 1):
            self.progress(f"{STAGES[stage]}, round {number}")
            solution, found = self.settled(graph, self._left_out, exact=keep)
            mine = [f for f in found if self.options.wants(f)]
            if stage == "exact":
                mine = [f for f in mine if f.safety is Safety.EXACT]
            elif stage == "legal":
                mine = [f for f in mine if f.edits and (f.severity is Severity.ERROR or f.safety is Safety.MANUAL)]
            model, done = carry_out(graph, solution, mine, exact=keep)
            if not done:
                return graph
            growth.note(graph, done)
            for finding in done:
                LOG.debug("%s, round %d: applied %r", STAGES[stage], number, finding)
            self.applied += done
            if not keep:
                self._note(solution.changes)
            graph.release()
            kept = not any(isinstance(e, Graft | Retype) for f in done for e in f.edits)  # new tensors have new shapes
            graph = Graph(model, graph.folder, known=graph if kept else None, target=graph.target)
        codes = ", ".join(sorted({f.code for f in done}))
        raise RepairError(f"QDQ904: no fixpoint after {ROUNDS} rounds; the last round still applied {codes}")

    def requested(self, graph: Graph, asked: Iterable[Finding]) -> Graph:
        """Carries out the user's requests; requests without edits are omitted."""
        asked = [f for f in asked if f.edits]
        model, done = carry_out(graph, solved(graph, (), self.options, True, self.data), asked, exact=True)
        self.applied += done
        return Graph(model, graph.folder, target=graph.target) if done else graph

    def corrected(self, graph: Graph, corrections: Corrections) -> Graph:
        """Corrects constants of the repaired graph."""
        new, self.corrections = correct(graph, corrections, self.options, self.progress)
        return new

    def result(self, model: onnx.ModelProto, start: Start, exact: Graph, final: Graph, *, free: bool = False) -> Repair:
        """Returns the repair of `model`.

        Args:
            model: the model as it was given.
            start: the same model before the first round.
            exact: the graph after the bit-exact repairs.
            final: the graph after all repairs.
            free: nobody needs the nodes of the final graph any more; they are freed before the plan is made.
        """
        edited, legal = final.model is not start.graph.model, self._legal or start.graph
        entries: dict[str, str] = {}
        if is_bare(final, self.rules) and not was_bared(final):
            entries[BARE] = "every pair was taken away"
        if self.data.measured is not None:
            entries[CALIBRATION] = self.data.measured.provenance
        made = with_entries(final.model, entries)
        changed = bool(self.applied) or start.opset is not None or not start.graph.functions
        changed = changed or self.data.measured is not None or edited
        if (self.data.measured is not None or self.corrections) and start.opset is None:
            changed = changed and not same(start.graph.model, made, final.folder)  # scales went, and came back
        solution, left = self.settled(final, self.refused)
        for finding in left:
            LOG.debug("left %r: %s", finding, finding.refused or finding.safety.value)
        old, after = start.pairs, pairs(final)
        new = {p.key for p in after if p.kind == "activation"}
        groups = sum(g.agreed and sum(bool(after.at(s)) for s in g.sites) > 1 for g in solution.groups)
        changes = self._changes((legal, start.graph), final, solution) if changed else ()
        left = self.judge.price(final, left)
        if free:
            del after
            final.release()
        made = distinct(made) if changed else model  # a repair that changes nothing inlines no function
        return Repair(
            model=made,
            plan=Plan.between(model, made),
            exact=exact.model if changed else model,
            start=start.graph.model if changed else model,
            functions=tuple(f.name for f in start.graph.functions) if changed else (),
            opset=start.opset,
            applied=told(self.applied) if changed else (),
            left=left,
            changes=changes,
            pairs_before=len(old),
            pairs_after=len(new),
            pairs_added=len(new - old),
            pairs_removed=len(old - new),
            corrections=self.corrections,
            groups=groups,
            floats=self.floats,
            found=self.found,
            measured=self.data.measured,
            legal=None if self._legal is None or self._unseeded else self._legal.model,
        )

    def scan(self, graph: Graph) -> tuple[Finding, ...]:
        """Returns the findings of the rules; those of the last graph are cached, because a stage starts with it."""
        if self._scanned is None or self._scanned[0] is not graph:
            self._scanned = (graph, scan(graph, self.rules))
        return self._scanned[1]

    def settled(self, graph: Graph, refused: Reasons, *, exact: bool = False) -> tuple[Solution, tuple[Finding, ...]]:
        """Returns the solution and the open findings of a graph; the last two are cached, because stages and the result
        ask for the same ones."""
        found, asked = self.scan(graph), (exact, {**refused})
        for scanned, data, known, answer in self._settled:
            if scanned is found and data is self.data and known == asked:
                return answer
        answer = resolve(graph, found, self.options, exact=exact, refused=refused, data=self.data)
        self._settled = [*self._settled[-1:], (found, self.data, asked, answer)]
        return answer

    def _changes(self, graphs: Sequence[Graph], final: Graph, solution: Solution) -> tuple[Change, ...]:
        """The sites whose scale changed; with data those of calibration as well, from the scale that they had in the
        last of the graphs in which they were symmetric."""
        measured = self.data.measured
        if measured is None or self.options.keep_scales:
            return tuple(self.changes.values())
        old = {p.site: p.value for graph in graphs for p in pairs(graph) if p.tieable}
        new = {p.site: p.value for p in pairs(final) if p.tieable}
        both = [site for site in old if site in new and old[site] != new[site]]
        groups = {site: (site,) if (group := solution.group(site)) is None else group.sites for site in both}
        return tuple(Change(s, old[s], new[s], measured.loss(s, new[s]), measured.method(groups[s])) for s in both)

    def _note(self, changes: Iterable[Change]) -> None:
        for change in changes:
            own = min(change.own, self.changes[change.site].own) if change.site in self.changes else change.own
            self.changes[change.site] = Change(change.site, own, change.new, bits_lost(change.new, own))
