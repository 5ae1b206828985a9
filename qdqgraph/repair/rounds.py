"""Checks and repairs a model in rounds: scan → findings → solve → carry out on a draft, until nothing is left to do.

`check` stops after the first solve. `fix` runs three stages: bit-exact repairs, repairs that make the graph legal, and
all others within the guard. It returns the new model with a plan, which is the net difference between the two models,
and does not modify the given model. Neither function opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import onnx

from ..errors import ModelError, RepairError
from ..graph.graph import Graph
from ..graph.pair import bits_lost, is_pair, pairs, required_opset
from ..model.opset import raised
from ..proposals.proposal import Graft, PlacePair
from ..rulekit.finding import Finding, Safety, Severity
from ..rulekit.policy import Policy, unknown_anchor
from ..rulekit.rule import Rule, scan
from ..targets.target import NAMES, Target
from .carry_out import Scales, carry_out
from .draft import Draft, distinct
from .gate import BARE, is_bare, quantized, was_bared
from .measured import Measured
from .options import Options
from .plan import Plan
from .requests import best_scales, readers_at, store_weights
from .requests import strip as unquantized
from .solver import Change, Solution, held_ties, solve

ROUNDS = 20
"""The limit of rounds; four are usual. A rule that proposes edits in every round is a defect."""


CALIBRATION = "qdqgraph.calibration"
"""The metadata_props key that says which data and method the scales come from."""
EXCLUDED = "excluded from this repair by --only or --except"


Price: TypeAlias = Callable[[Graph, tuple[Finding, ...]], tuple[Finding, ...]]
"""Sets what findings cost, in bytes; the forecast that knows it is on a higher level than this module."""


@dataclass(frozen=True)
class Repair:
    """The result of `fix`.

    Attributes:
        model: the repaired model.
        plan: the net difference between the given model and the repaired model.
        exact: the model after the bit-exact repairs; `model` itself if no other repair followed.
        applied: the findings that were repaired, in order.
        left: the findings that remain, with the reason if a repair was refused.
        changes: the sites whose scale changed, with the bits lost since the original.
        pairs_before: number of activation pairs before the repair.
        pairs_after: number of activation pairs after the repair.
        pairs_added: number of activation pairs that are new.
        pairs_removed: number of activation pairs that are gone.
        groups: number of groups of sites that share one scale after the repair.
    """

    model: onnx.ModelProto
    plan: Plan
    exact: onnx.ModelProto
    applied: tuple[Finding, ...]
    left: tuple[Finding, ...]
    changes: tuple[Change, ...]
    pairs_before: int
    pairs_after: int
    pairs_added: int
    pairs_removed: int
    groups: int


@dataclass(frozen=True)
class Data:
    """What data say of a graph that TensorRT accepts.

    Attributes:
        measured: the statistics of its sites; None without data.
        held: the ties that the graph met before calibration.
    """

    measured: Measured | None = None
    held: frozenset[tuple[str, str]] = frozenset()


NO_DATA = Data()


def resolve(
    graph: Graph, found: Sequence[Finding], options: Options, *, exact: bool = False, data: Data = NO_DATA
) -> tuple[Solution, tuple[Finding, ...]]:
    """Solves the ties and returns the solution with the open findings: ties already met are dropped.

    A refused finding gets the reason in `refused`.
    """
    ties = [f for f in found if f.tie is not None and f.safety is not Safety.MANUAL]
    inside = [f for f in ties if options.covers(f)]
    solution = _solved(graph, inside, options, exact, data)
    outside: list[Finding] = []
    if len(inside) < len(ties):
        real = _solved(graph, ties, options, exact, data).findings
        outside = [replace(f, refused=f.refused or EXCLUDED) for f in real if not options.covers(f)]
    scales = Scales(graph, solution)
    settled = [s for f in found if f.tie is None and (s := _placed(scales, f)) is not None]
    return solution, tuple(sorted((*settled, *solution.findings, *outside), key=lambda f: f.order))


def _solved(graph: Graph, ties: Sequence[Finding], options: Options, exact: bool, data: Data = NO_DATA) -> Solution:
    return solve(
        graph,
        ties,
        policy=options.policy,
        max_bits_lost=options.max_bits_lost,
        exact=exact,
        measured=data.measured,
        held=data.held,
        keep_scales=options.keep_scales,
    )


def _placed(scales: Scales, finding: Finding) -> Finding | None:
    """Returns the finding, refused if a placement has no scale; None if a reported unequal group is the cause."""
    for edit in finding.edits:
        if not isinstance(edit, PlacePair):
            continue
        source, agreed = scales.source(edit)
        calibrate = edit.calibrate and scales.solution.measured is None
        if not agreed and not edit.calibrate:
            return None
        if not source or calibrate:
            return replace(finding, refused=f"the graph has no scale for '{edit.tensor}': give --data to measure one")
    return finding


def check(
    model: onnx.ModelProto, rules: Sequence[Rule], options: Options | None = None, *, folder: Path | None = None
) -> tuple[Finding, ...]:
    """Returns the findings of the rules in a model, with ties solved; the model is not modified.

    Raises:
        ModelError: the model has no Q/DQ or cannot be imported.
        RuleError: a rule crashed, or the policy is unknown.
    """
    options = options or Options()
    return examine(quantized(Graph(model, folder, target=Target.named(options.target)), rules), rules, options)


def examine(graph: Graph, rules: Sequence[Rule], options: Options) -> tuple[Finding, ...]:
    """Returns the findings of the rules in a graph, with ties solved; raises as `check`."""
    _check_policy(graph, options.policy)
    return resolve(graph, scan(graph, rules), options)[1]


def _check_policy(graph: Graph, text: str) -> None:
    """Rejects an anchor that the model does not have; without this check the default policy would apply.

    Raises:
        RuleError: the policy is unknown.
        ModelError: the model has no tensor of the anchor's name.
    """
    if fault := unknown_anchor(graph, Policy.parse(text)):
        raise ModelError(fault)


def fix(
    model: onnx.ModelProto,
    rules: Sequence[Rule],
    options: Options | None = None,
    *,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda message: None,
    price: Price = lambda graph, findings: findings,
    measure: Callable[[Graph], Measured] | None = None,
) -> Repair:
    """Repairs a model.

    Args:
        model: the model; it is not modified.
        rules: the rules to repair by.
        options: what the repair may do; the defaults if None.
        folder: the folder that contains the external data.
        progress: called with one line before each step.
        price: sets `bytes` of the remaining findings, given the repaired graph.
        measure: measures the sites of the graph that the target accepts; scales then come from data.

    Raises:
        ModelError: the model has no Q/DQ or cannot be imported.
        RuleError: a rule crashed, or the policy is unknown.
        RepairError: TensorRT would refuse the graph and no rule repairs that, or the rounds do not end (QDQ904).
    """
    options = options or Options()
    graph = quantized(Graph(distinct(model), folder, target=Target.named(options.target)), rules)
    _check_policy(graph, options.policy)
    least = _opset(graph, rules)
    if graph.opset < least:
        graph = Graph(raised(graph.model, least), graph.folder, target=graph.target)
    work = _Work(rules, options, progress, price)
    exact = work.rounds(graph, "exact")
    final = exact
    if not options.exact:
        final = work.rounds(work.calibrated(work.rounds(exact, "legal"), measure), "all")
        final = work.rounds(work.refined(final), "all")
    if options.weights is not None:
        asked = [f for f in store_weights(final, options.weights) if options.covers(f)]
        final = work.requested(final, asked)
    result = work.result(model, graph, exact, final)
    illegal = [f for f in result.left if f.severity is Severity.ERROR]
    if illegal:
        raise RepairError(_illegal(illegal, options))
    return result


def _opset(graph: Graph, rules: Sequence[Rule]) -> int:
    """Returns the lowest opset in which everything quantized can be written as pairs; 0 if any opset can."""
    written = (required_opset(graph, node) for node in graph.nodes() if is_pair(node))
    return max((*written, *(rule.opset for rule in rules if rule.quantized_nodes(graph))), default=0)


def strip(
    model: onnx.ModelProto,
    nodes: Sequence[str] = (),
    rules: Sequence[Rule] = (),
    *,
    folder: Path | None = None,
) -> Repair:
    """Removes the pairs at the inputs of chosen nodes, so that these run in floating point; nothing else changes.

    Args:
        model: the model; it is not modified.
        nodes: globs on the names of nodes and of their outputs.
        rules: nodes that these rules report are chosen as well.
        folder: the folder that contains the external data.

    Raises:
        ModelError: the model has no Q/DQ or cannot be imported; a glob matches no node; no chosen node is quantized.
    """
    graph = quantized(Graph(distinct(model), folder), rules)
    options = Options()
    work = _Work(rules, options)
    found = resolve(graph, work.scan(graph), options)[1]
    chosen = (*nodes, *readers_at(graph, found))
    if not chosen:
        raise ModelError("nothing to strip: no node is given, and the rules report none")
    final = work.requested(graph, unquantized(graph, chosen))
    return work.result(model, graph, graph, final)


Stage = Literal["exact", "legal", "all"]
STAGES: dict[Stage, str] = {"exact": "exact repairs", "legal": "legality", "all": "lossy repairs"}


class _Work:
    """Runs rounds of repairs and records what they applied."""

    def __init__(
        self,
        rules: Sequence[Rule],
        options: Options,
        progress: Callable[[str], None] = lambda message: None,
        price: Price = lambda graph, findings: findings,
    ) -> None:
        self.rules, self.options, self.progress, self.price = rules, options, progress, price
        self.applied: list[Finding] = []
        self.changes: dict[str, Change] = {}
        self.data = NO_DATA
        self._scanned: tuple[Graph, tuple[Finding, ...]] | None = None

    def rounds(self, graph: Graph, stage: Stage) -> Graph:
        """Runs rounds until no proposal of the stage is left; returns the last graph.

        The bit-exact repairs come first. The stage "legal" repairs what TensorRT refuses, so that the ties see every
        scale of the final network. The stage "all" unifies the scales.
        """
        done: list[Finding] = []
        keep = stage != "all"
        for number in range(1, ROUNDS + 1):
            self.progress(f"{STAGES[stage]}, round {number}")
            solution, found = resolve(graph, self.scan(graph), self.options, exact=keep, data=self.data)
            mine = [f for f in found if self.options.wants(f)]
            if stage == "exact":
                mine = [f for f in mine if f.safety is Safety.EXACT]
            elif stage == "legal":
                mine = [f for f in mine if f.severity is Severity.ERROR and f.edits]
            model, done = carry_out(graph, solution, mine, exact=keep)
            if not done:
                return graph
            self.applied += done
            if not keep:
                self._note(solution.changes)
            kept = not any(isinstance(e, Graft) for f in done for e in f.edits)  # new tensors have new shapes
            graph = Graph(model, graph.folder, known=graph if kept else None, target=graph.target)
        codes = ", ".join(sorted({f.code for f in done}))
        raise RepairError(f"QDQ904: no fixpoint after {ROUNDS} rounds; the last round still applied {codes}")

    def calibrated(self, graph: Graph, measure: Callable[[Graph], Measured] | None) -> Graph:
        """Measures the graph's sites; unless the scales are kept, gives each pair the best scale of its site."""
        if measure is None:
            return graph
        held = held_ties(graph, self.scan(graph))
        self.data = Data(measure(graph), held)
        assert self.data.measured is not None
        if self.options.keep_scales:
            return graph
        return self.requested(graph, [f for f in best_scales(graph, self.data.measured) if self.options.covers(f)])

    def refined(self, graph: Graph) -> Graph:
        """Measures the scales of the final groups again, at the layers that read them; without data does nothing."""
        if self.data.measured is None or self.options.keep_scales:
            return graph
        solution, _ = resolve(graph, self.scan(graph), self.options, data=self.data)
        groups = [group.sites for group in solution.groups]
        inside = {site for sites in groups for site in sites}
        groups += [(s,) for s in dict.fromkeys(p.site for p in pairs(graph) if p.tieable) if s not in inside]
        measured = self.data.measured.refined(graph, groups)
        if measured is self.data.measured:
            return graph
        self.data = Data(measured, held_ties(graph, self.scan(graph)) | self.data.held)
        return self.requested(graph, [f for f in best_scales(graph, measured) if self.options.covers(f)])

    def requested(self, graph: Graph, asked: Iterable[Finding]) -> Graph:
        """Carries out the user's requests; requests without edits are omitted."""
        asked = [f for f in asked if f.edits]
        model, done = carry_out(graph, _solved(graph, (), self.options, True), asked, exact=True)
        self.applied += done
        return Graph(model, graph.folder, target=graph.target) if done else graph

    def result(self, model: onnx.ModelProto, graph: Graph, exact: Graph, final: Graph) -> Repair:
        """Returns the repair of `model`.

        Args:
            model: the model as it was given.
            graph: the same model before the first round.
            exact: the graph after the bit-exact repairs.
            final: the graph after all repairs.
        """
        if is_bare(final, self.rules) and not was_bared(final):
            draft = Draft(final.model)
            draft.set_metadata(BARE, "every pair was taken away")
            final = Graph(draft.finish(), final.folder, target=final.target)
        if self.data.measured is not None:
            draft = Draft(final.model)
            draft.set_metadata(CALIBRATION, self.data.measured.provenance)
            final = Graph(draft.finish(), final.folder, known=final, target=final.target)
        solution, left = resolve(final, self.scan(final), self.options, data=self.data)
        before, after = pairs(graph), pairs(final)
        old, new = ({p.key for p in table if p.kind == "activation"} for table in (before, after))
        return Repair(
            model=final.model,
            plan=Plan.between(model, final.model),
            exact=exact.model,
            applied=tuple(self.applied),
            left=self.price(final, left),
            changes=tuple(self.changes.values())
            if self.data.measured is None
            else self._measured_changes(graph, final),
            pairs_before=len(old),
            pairs_after=len(new),
            pairs_added=len(new - old),
            pairs_removed=len(old - new),
            groups=sum(g.agreed and sum(bool(after.at(s)) for s in g.sites) > 1 for g in solution.groups),
        )

    def _measured_changes(self, graph: Graph, final: Graph) -> tuple[Change, ...]:
        assert self.data.measured is not None
        old = {p.site: p.value for p in pairs(graph) if p.tieable}
        new = {p.site: p.value for p in pairs(final) if p.tieable}
        both = [site for site in old if site in new and old[site] != new[site]]
        loss = {site: self.data.measured.loss(site, new[site]) for site in both}
        return tuple(Change(site, old[site], new[site], loss[site]) for site in both)

    def scan(self, graph: Graph) -> tuple[Finding, ...]:
        """Returns the findings of the rules; those of the last graph are cached, because a stage starts with it."""
        if self._scanned is None or self._scanned[0] is not graph:
            self._scanned = (graph, scan(graph, self.rules))
        return self._scanned[1]

    def _note(self, changes: Iterable[Change]) -> None:
        for change in changes:
            own = min(change.own, self.changes[change.site].own) if change.site in self.changes else change.own
            self.changes[change.site] = Change(change.site, own, change.new, bits_lost(change.new, own))


def elsewhere(graph: Graph, rules: Sequence[Rule], here: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns what the target-dependent rules find on the other targets and is not already among the findings `here`.

    Raises:
        RuleError: a rule crashed.
    """
    mine, known = [r for r in rules if r.by_target], {f.identity for f in here}
    others = [name for name in NAMES if name != graph.target.name]
    found = ((name, finding) for name in others for finding in scan(graph.aimed_at(Target.named(name)), mine))
    return tuple(replace(finding, target=name) for name, finding in found if finding.identity not in known)


def _illegal(findings: Sequence[Finding], options: Options) -> str:
    """Returns the message that explains why the model was not repaired, one line per finding."""
    lines = [f"{f.place}: {f.code} {f.message}; {f.advice}" for f in findings]
    asked = sorted({f.code for f in findings if f.edits and f.safety is Safety.MANUAL})
    forbidden = options.exact and any(f.edits and f.safety is Safety.LOSSY for f in findings)
    advice = [f"repairs on request: add --also {','.join(asked)}"] if asked else []
    advice += ["lossy repairs exist: omit --exact"] if forbidden else []
    return "\n  ".join([f"{Target.named(options.target).title} would refuse the model:", *lines, *advice])
