"""Checks and repairs a model in rounds: scan → findings → solve → carry out on a draft, until nothing is left to do.

`check` stops after the first solve. `fix` runs three stages: bit-exact repairs, repairs that make the graph legal, and
all others within the guard. It returns the new model with a plan, which is the net difference between the two models,
and does not modify the given model. Neither function opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import onnx

from ..errors import ModelError, RepairError
from ..graph.graph import Graph
from ..graph.pair import bits_lost, pairs
from ..proposals.proposal import Graft, PlacePair, Retype
from ..rulekit.finding import Finding, Safety, Severity
from ..rulekit.policy import Policy, unknown_anchor
from ..rulekit.rule import Rule, scan
from ..targets.target import NAMES, Target
from .carry_out import Scales, carry_out
from .draft import Draft, distinct
from .gate import BARE, is_bare, opened, was_bared
from .guard import Reasons, Refuse, guarded
from .options import Options
from .plan import Plan
from .repair import Repair
from .requests import readers_at, store_weights
from .requests import strip as unquantized
from .solver import Change, Solution, solve
from .start import Start

ROUNDS = 20
"""The limit of rounds; four are usual. A rule that proposes edits in every round is a defect."""


EXCLUDED = "excluded from this repair by --only or --except"


Price: TypeAlias = Callable[[Graph, tuple[Finding, ...]], tuple[Finding, ...]]
"""Sets what findings cost, in bytes; the forecast that knows it is on a higher level than this module."""


def resolve(
    graph: Graph,
    found: Sequence[Finding],
    options: Options,
    *,
    exact: bool = False,
    refused: Reasons = MappingProxyType({}),
) -> tuple[Solution, tuple[Finding, ...]]:
    """Solves the ties and returns the solution with the open findings: ties already met are dropped.

    A refused finding gets the reason in `refused`, also if it is among those that are `refused` already.
    """
    ties = [f for f in found if f.tie is not None and f.safety is not Safety.MANUAL]
    inside = [f for f in ties if options.covers(f) and f.identity not in refused]
    solution = _solved(graph, inside, options, exact)
    outside: list[Finding] = []
    if len(inside) < len(ties):
        real = _solved(graph, ties, options, exact).findings
        left_out = [f for f in real if not options.covers(f) or f.identity in refused]
        outside = [replace(f, refused=f.refused or refused.get(f.identity, EXCLUDED)) for f in left_out]
    scales = Scales(graph, solution)
    placed = [s for f in found if f.tie is None and (s := _placed(scales, f)) is not None]
    settled = [replace(f, refused=f.refused or refused[f.identity]) if f.identity in refused else f for f in placed]
    return solution, tuple(sorted((*settled, *solution.findings, *outside), key=lambda f: f.order))


def _solved(graph: Graph, ties: Sequence[Finding], options: Options, exact: bool) -> Solution:
    return solve(graph, ties, policy=options.policy, max_bits_lost=options.max_bits_lost, exact=exact)


def _placed(scales: Scales, finding: Finding) -> Finding | None:
    """Returns the finding, refused if a placement has no scale; None if a reported unequal group is the cause."""
    for edit in finding.edits:
        if not isinstance(edit, PlacePair):
            continue
        source, agreed = scales.source(edit)
        if not agreed and not edit.calibrate:
            return None
        if not source or edit.calibrate:
            return replace(finding, refused=f"the graph has no scale for '{edit.tensor}': calibrate and quantize it")
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
    return examine(opened(model, rules, Target.named(options.target), folder), rules, options)


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
    refuse: Refuse = lambda before, after, applied, illegal: {},
) -> Repair:
    """Repairs a model.

    Args:
        model: the model; it is not modified.
        rules: the rules to repair by.
        options: what the repair may do; the defaults if None.
        folder: the folder that contains the external data.
        progress: called with one line before each step.
        price: sets `bytes` of the remaining findings, given the repaired graph.
        refuse: says which repairs make the engine worse. They are not applied, except repairs of severity error and
            those that the options name in `also`.

    Raises:
        ModelError: the model has no Q/DQ or cannot be imported.
        RuleError: a rule crashed, or the policy is unknown.
        RepairError: TensorRT would refuse the graph and no rule repairs that, or the rounds do not end (QDQ904,
            QDQ905).
    """
    options = options or Options()
    start = Start.of(model, rules, options.target, folder)
    graph = start.graph
    _check_policy(graph, options.policy)
    work = _Work(rules, options, progress, price, refuse)
    exact, final = work.stages(graph)
    for _ in range(ROUNDS if work.refused else 0):  # a second run would try again on the repaired graph
        last, final = final, work.stages(final)[1]
        if final is last:
            break
    if options.weights is not None:
        asked = [f for f in store_weights(final, options.weights) if options.covers(f)]
        final = work.requested(final, asked)
    result = work.result(model, start, exact, final)
    illegal = [f for f in result.left if f.severity is Severity.ERROR]
    if illegal:
        raise RepairError(_illegal(illegal, options))
    return result


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
    options = Options()
    graph = opened(distinct(model), rules, Target.named(options.target), folder)
    start = Start(graph)
    work = _Work(rules, options)
    found = resolve(graph, work.scan(graph), options)[1]
    chosen = (*nodes, *readers_at(graph, found))
    if not chosen:
        raise ModelError("nothing to strip: no node is given, and the rules report none")
    final = work.requested(graph, unquantized(graph, chosen))
    return work.result(model, start, graph, final)


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
        refuse: Refuse = lambda before, after, applied, illegal: {},
    ) -> None:
        self.rules, self.options, self.progress, self.price, self.refuse = rules, options, progress, price, refuse
        self.applied: list[Finding] = []
        self.changes: dict[str, Change] = {}
        self.refused: Reasons = {}
        self._left_out: Reasons = {}
        self._scanned: tuple[Graph, tuple[Finding, ...]] | None = None

    def stages(self, graph: Graph) -> tuple[Graph, Graph]:
        """Runs the stages, without what makes the engine worse; returns the graphs after the exact and the last one."""
        self.refused = {}
        exact = self.guarded(graph, "exact")
        return exact, exact if self.options.exact else self.guarded(self.rounds(exact, "legal"), "all")

    def guarded(self, graph: Graph, stage: Stage) -> Graph:
        """Runs the rounds of a stage without the repairs that make the engine worse, and notes these in `refused`."""
        scanned = (graph, self.scan(graph))
        illegal = [f for f in scanned[1] if f.severity is Severity.ERROR and f.tie is None]
        applied, changes = tuple(self.applied), dict(self.changes)

        def attempt(refused: Reasons) -> tuple[Graph, Sequence[Finding]]:
            self.applied, self.changes, self._left_out, self._scanned = [*applied], {**changes}, refused, scanned
            return self.rounds(graph, stage), self.applied[len(applied) :]

        def refuse(after: Graph, done: Sequence[Finding]) -> Reasons:
            reasons = self.refuse(graph, after, done, illegal)
            return {known: why for known, why in reasons.items() if known[0] not in self.options.also}

        after, refused = guarded(attempt, refuse)
        self._left_out, self.refused = {}, {**self.refused, **refused}
        return after

    def rounds(self, graph: Graph, stage: Stage) -> Graph:
        """Runs rounds until no proposal of the stage is left; returns the last graph.

        The bit-exact repairs come first. The stage "legal" repairs what TensorRT refuses, so that the ties see every
        scale of the final network. The stage "all" unifies the scales.
        """
        done: list[Finding] = []
        keep = stage != "all"
        for number in range(1, ROUNDS + 1):
            self.progress(f"{STAGES[stage]}, round {number}")
            found = self.scan(graph)
            solution, found = resolve(graph, found, self.options, exact=keep, refused=self._left_out)
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
            kept = not any(isinstance(e, Graft | Retype) for f in done for e in f.edits)  # new tensors have new shapes
            graph = Graph(model, graph.folder, known=graph if kept else None, target=graph.target)
        codes = ", ".join(sorted({f.code for f in done}))
        raise RepairError(f"QDQ904: no fixpoint after {ROUNDS} rounds; the last round still applied {codes}")

    def requested(self, graph: Graph, asked: Iterable[Finding]) -> Graph:
        """Carries out the user's requests; requests without edits are omitted."""
        asked = [f for f in asked if f.edits]
        model, done = carry_out(graph, _solved(graph, (), self.options, True), asked, exact=True)
        self.applied += done
        return Graph(model, graph.folder, target=graph.target) if done else graph

    def result(self, model: onnx.ModelProto, start: Start, exact: Graph, final: Graph) -> Repair:
        """Returns the repair of `model`.

        Args:
            model: the model as it was given.
            start: the same model before the first round.
            exact: the graph after the bit-exact repairs.
            final: the graph after all repairs.
        """
        if is_bare(final, self.rules) and not was_bared(final):
            draft = Draft(final.model)
            draft.set_metadata(BARE, "every pair was taken away")
            final = Graph(draft.finish(), final.folder, target=final.target)
        changed = bool(self.applied) or start.opset is not None or not start.graph.functions
        solution, left = resolve(final, self.scan(final), self.options, refused=self.refused)
        before, after = pairs(start.graph), pairs(final)
        old, new = ({p.key for p in table if p.kind == "activation"} for table in (before, after))
        return Repair(
            model=final.model if changed else model,  # a repair that changes nothing inlines no function
            plan=Plan.between(model, final.model if changed else model),
            exact=exact.model if changed else model,
            start=start.graph.model if changed else model,
            functions=tuple(f.name for f in start.graph.functions) if changed else (),
            opset=start.opset,
            applied=tuple(self.applied),
            left=self.price(final, left),
            changes=tuple(self.changes.values()),
            pairs_before=len(old),
            pairs_after=len(new),
            pairs_added=len(new - old),
            pairs_removed=len(old - new),
            groups=sum(g.agreed and sum(bool(after.at(s)) for s in g.sites) > 1 for g in solution.groups),
        )

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
