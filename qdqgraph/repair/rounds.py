"""Checks and repairs a model in rounds: scan → findings → solve → carry out on a draft, until nothing is left to do.

`check` stops after the first solve. `fix` runs three stages: bit-exact repairs, repairs that make the graph legal, and
all others within the guard. It returns the new model with a plan, which is the net difference between the two models,
and does not modify the given model. Neither function opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from ..errors import ModelError, RepairError
from ..graph.graph import Graph
from ..log import Progress, log_step
from ..model.protos import version
from ..proposals.opset import model_faults
from ..rulekit.finding import Finding, Safety, Severity
from ..rulekit.policy import Policy, unknown_anchor
from ..rulekit.rule import Rule, scan
from ..targets.target import NAMES, Target
from .corrections import Corrections, released
from .draft import distinct
from .gate import opened
from .guard import Judge
from .options import Options
from .plan import Plan
from .repair import Repair
from .requests import readers_at, store_weights
from .requests import strip as unquantized
from .resolve import resolve
from .solution import Solution
from .start import Start
from .work import UNJUDGED, Measure, Work

FEW = 3
"""So many findings with the same rule and advice are said one by one in a refusal."""


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
    return examined(graph, rules, options)[1]


def examined(graph: Graph, rules: Sequence[Rule], options: Options) -> tuple[Solution, tuple[Finding, ...]]:
    """Returns the groups of sites, and the findings of `examine`; raises as `check`."""
    return settled(graph, scan(graph, rules), options)


def settled(graph: Graph, scanned: Sequence[Finding], options: Options) -> tuple[Solution, tuple[Finding, ...]]:
    """Returns what `examined` returns, from what the rules found in the graph; raises as `check`."""
    _check_policy(graph, options.policy)
    return resolve(graph, scanned, options)


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
    progress: Progress = log_step,
    judge: Judge = UNJUDGED,
    measure: Measure | None = None,
    corrections: Corrections | None = None,
) -> Repair:
    """Repairs a model.

    Args:
        model: the model; it is not modified.
        rules: the rules to repair by.
        options: what the repair may do; the defaults if None.
        folder: the folder that contains the external data.
        progress: called with one line before each step.
        judge: says what the remaining findings cost, and which repairs make the engine worse. These are not applied,
            except repairs of severity error and those that the options name in `also`.
        measure: measures the sites of the graph that the target accepts; scales then come from data.
        corrections: corrects constants of the repaired graph.

    Raises:
        ModelError: the model has no Q/DQ or cannot be imported.
        RuleError: a rule crashed, or the policy is unknown.
        RepairError: TensorRT would refuse the graph and no rule repairs that, or the rounds do not end (QDQ904,
            QDQ905).
    """
    options = options or Options()
    start = Start.of(model, rules, options.target, folder)
    work = partial(Work, rules, options, progress, judge, measure)
    return _repaired(model, start, work, corrections)


def quantize(
    model: onnx.ModelProto,
    rules: Sequence[Rule],
    options: Options | None = None,
    *,
    measure: Measure,
    folder: Path | None = None,
    progress: Progress = log_step,
    judge: Judge = UNJUDGED,
    corrections: Corrections | None = None,
) -> Repair:
    """Quantizes a float model: places pairs at the inputs of its weighted layers, and then repairs as `fix` does.

    Args:
        model: the model; it is not modified.
        rules: the rules that place and tie all other pairs.
        options: as `fix`; `only` and `skip` choose the layers.
        measure: measures the activations of the graph.
        folder, progress, judge, corrections: as `fix`.

    Raises:
        ModelError: the model has Q/DQ or cannot be imported, or no layer can be quantized.
        RuleError, RepairError: as `fix`.
    """
    options = options or Options()
    start = Start.of(model, rules, options.target, folder, floats=True)
    work = partial(Work, rules, options, progress, judge, measure, floats=True)
    return _repaired(model, start, work, corrections)


def _repaired(
    model: onnx.ModelProto, start: Start, begun: Callable[[], Work], corrections: Corrections | None
) -> Repair:
    work = begun()
    graph, options = start.graph, work.options
    _check_policy(graph, options.policy)
    exact, final = work.run(start)
    if (later := start.enough(final, version(model), work.rules)) is not start:
        return _repaired(model, later, begun, corrections)
    if options.weights is not None:
        asked = [f for f in store_weights(final, options.weights) if options.covers(f)]
        final = work.requested(final, asked)
    final = work.with_paths(final)
    final = released(final) if corrections is None else work.corrected(final, corrections)
    accepted = not model_faults(final)  # what `result` adds are metadata
    result = work.result(model, start, exact, final, free=True)
    if accepted:
        result = replace(result, accepted=result.model)
    illegal = [f for f in result.left if f.severity is Severity.ERROR]
    if illegal:
        raise RepairError(_illegal(illegal, options))
    return result


def unchanged(
    model: onnx.ModelProto,
    rules: Sequence[Rule],
    options: Options,
    *,
    folder: Path,
    judge: Judge = UNJUDGED,
) -> Repair:
    """The repair of a model that stays as it is, with its findings; arguments and errors as `fix`."""
    start = Start.of(model, rules, options.target, folder)
    found = Work(rules, options, judge=judge).result(model, start, start.graph, start.graph)
    return replace(found, model=model, plan=Plan.between(model, model), found=found.left)


def between(
    before: Graph, after: Graph, rules: Sequence[Rule], options: Options, *, scanned: tuple[Finding, ...] | None = None
) -> Repair:
    """The difference of a graph and a variant of it as a repair, with the findings in the variant.

    Args:
        before: the graph.
        after: the variant.
        rules: the rules that find something in it.
        options: the settings of a repair.
        scanned: what the rules found in the variant; None to run them.

    Raises:
        RuleError: a rule crashed.
    """
    work = Work(rules, options)
    if scanned is not None:
        work.knows(after, scanned)
    return work.result(before.model, Start(before), before, after)


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
        ModelError: the model has no Q/DQ or cannot be imported; a glob matches no node; no chosen node is quantized,
            or none of their pairs can be removed.
    """
    options = Options()
    graph = opened(distinct(model), rules, Target.named(options.target), folder)
    start = Start(graph)
    work = Work(rules, options)
    found = resolve(graph, work.scan(graph), options)[1]
    chosen = (*nodes, *readers_at(graph, found))
    if not chosen:
        raise ModelError("nothing to strip: no node is given, and the rules report none")
    asked = unquantized(graph, chosen)
    left = tuple(request for request in asked if not request.edits)
    if len(left) == len(asked):
        raise ModelError(f"nothing can be stripped: {left[0].message}; {left[0].help}")
    final = released(work.requested(graph, asked))
    result = work.result(model, start, graph, final)
    return replace(result, left=(*left, *result.left))


def stripped(graph: Graph, nodes: Sequence[str]) -> Graph:
    """Returns a graph without the pairs at the inputs of chosen nodes, as `strip` leaves it.

    Args:
        graph: the graph; it is not modified.
        nodes: globs on the names of nodes and of their outputs.

    Raises:
        ModelError: a glob matches no node, or no chosen node is quantized.
    """
    return Work((), Options()).requested(graph, unquantized(graph, nodes))


def elsewhere(graph: Graph, rules: Sequence[Rule], here: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns what the target-dependent rules find on the other targets and is not already among the findings `here`.

    Raises:
        RuleError: a rule crashed.
    """
    mine, known = [r for r in rules if r.by_target], {f.identity for f in here}
    others = [name for name in NAMES if name != graph.target.name]
    found = ((name, finding) for name in others for finding in scan(graph.aimed_at(Target.named(name)), mine))
    return tuple(replace(finding, target=name) for name, finding in found if finding.identity not in known)


def _lines(alike: Sequence[Finding]) -> Iterator[str]:
    """Yields what is said of findings of one rule with the same advice."""
    if len(alike) <= FEW:
        yield from (f"{f.place}: {f.code} {f.message}; {f.advice}" for f in alike)
        return
    first = alike[0]
    yield f"{first.code} at {len(alike)} places, first at {first.place}: {first.message}; {first.advice}"


def _illegal(findings: Sequence[Finding], options: Options) -> str:
    """Returns the message that explains why the model was not repaired: a line per finding, or, if many have the same
    rule and advice, one for all of them."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.advice), []).append(finding)
    lines = [line for alike in groups.values() for line in _lines(alike)]
    asked = sorted({f.code for f in findings if f.edits and f.safety is Safety.MANUAL})
    forbidden = options.exact and any(f.edits and f.safety is Safety.LOSSY for f in findings)
    advice = [f"repairs on request: add --also {','.join(asked)}"] if asked else []
    advice += ["lossy repairs exist: omit --exact"] if forbidden else []
    return "\n  ".join([f"{Target.named(options.target).title} would refuse the model:", *lines, *advice])
