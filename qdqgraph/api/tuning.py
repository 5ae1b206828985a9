"""The functions that search for the fastest placement within a budget: tune, and its status."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .. import __version__
from ..calibration.data.sources import Data
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..engines.builders.builder import require
from ..engines.timing.device import DEFAULT as DEVICE
from ..engines.timing.device import Device
from ..engines.timing.roofline import Roofline, default_shares
from ..errors import ModelError
from ..extras import install_hint
from ..model import runtime
from ..model.content import content
from ..model.writing.models import Source
from ..model.writing.outputs import refuse_collisions
from ..repair.options import Options
from ..repair.provenance import Run
from ..report.tuned import Tuned
from ..rulekit.rule import Rule
from ..search.budget import Budget
from ..search.decisions import Candidate
from ..search.found import Found, How
from ..search.front import Measured, front
from ..search.outcome import Outcome, Point, SearchStatus
from ..search.trials import Trials, choices, opened, results
from ..search.walk import searched
from ..verify.scores import Evaluate
from ..versions import Unpack
from . import given
from .call import public
from .chosen import FLOATS, as_repair, best, choosable, close_times, engine_of, float_network, left_findings
from .dependence import content_of, depends_on
from .engines import shares_of
from .given import File, Memory, Model, Progress, log_step
from .ranking import function_name
from .results import output_paths, refuse_outputs, written
from .settings import FixOptions
from .starting import BASE, Asked, starting
from .tried import Builds

TRIALS = 40
"""Changes of the front that a search tries."""
STUDY = "tune"
LEAST = 4
"""Samples: two that the search sees, and two that judge its result."""
LEAST_BUILDS = 2
"""The repaired model, and the float network, whose time is measured if the library measures times."""


@public(FixOptions)
def tune(
    model: Model,
    data: Data,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    budget_db: float | None = None,
    max_drop: float | None = None,
    min_speed: float | None = None,
    max_slower: float | None = None,
    evaluate: Evaluate | None = None,
    device: str = DEVICE,
    fp32: bool = False,
    measured: tuple[File, File] | None = None,
    library: str | None = None,
    builds: int = 10,
    trials: int = TRIALS,
    seed: int = 0,
    storage: str | None = None,
    output: File | None = None,
    plan: File | None = None,
    force: bool = False,
    folder: File | None = None,
    reference: Model | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    memory: Memory = DEFAULT_MEMORY,
    provider: str = "cpu",
    provenance: bool = True,
    progress: Progress = log_step,
    **settings: Unpack[FixOptions],
) -> Tuned:
    """Searches for the fastest placement within an accuracy budget, as `qdqgraph tune` does.

    The search begins with the model as `fix` repairs it on these data (a float model as `quantize` does). It measures
    what each layer in floating point and each other scale changes at the outputs and in estimated time, adds up the
    best of these decisions, and improves the best candidates. The result is never worse than the repaired model in both
    time and quality.

    Args:
        model: a quantized or float model, which is not modified, or its path.
        data: samples of the inputs, as in `fix`; every second one is held back from the search and judges its result.
        rules, select, ignore, options, folder, reference, preprocess, samples, memory, provider: as `fix`.
        budget_db: the least SQNR of the outputs against the float network, in dB: the fastest such model.
        max_drop: with `evaluate`, the most that the score may be below that of the float network: the fastest such
            model.
        min_speed: the least speed in times that of the float network, by estimated time: the most accurate such model.
        max_slower: the most that it is slower than the repaired model, in percent: the most accurate such model.
        evaluate: scores a network, as in `sensitivity`.
        device: a device whose datasheet the times are estimated from, as in `estimate`.
        fp32: what is not quantized runs in FP32; in FP16 by default, as in an engine built with --fp16.
        measured: layer info and profile of an engine on the device, as in `estimate`.
        library: builds the best candidates: "tensorrt-rtx" (what is legal, and bytes), or "openvino", "trtexec",
            "tensorrt", whose measured times then choose.
        builds: at most so many engines, the repaired model and the float network among them; 2 or more.
        trials: changes of the best candidates that are tried.
        seed: of these; the same seed gives the same result.
        storage: an URL of Optuna, such as "sqlite:///tune.db", that keeps what was measured: a later call goes on, and
            several processes share the work. In memory by default.
        output, plan, force, provenance: as `fix`, of the chosen model.
        progress: called with one line before each step.
        settings: fields of `Options` by name.

    Raises:
        ModelError, RuleError, RepairError, CalibrationError, EngineError: as `fix`; or no candidate is within the
            budget (the message says what the best one has), there are too few samples, or optuna is missing.
    """
    budget = Budget(budget_db, max_drop, min_speed, max_slower)
    if max_drop is not None and evaluate is None:
        raise ModelError("a drop of the score needs the function that scores: give --eval")
    if trials < 0 or builds < LEAST_BUILDS:
        raise ModelError(f"give a number of trials of 0 or more, and of builds of {LEAST_BUILDS} or more")
    if library is not None:
        require(library)
    refuse_outputs(model, output, plan, force)
    found, place, source = given.read(model, folder)
    refuse_collisions(found, place, source, output_paths(output, plan))
    feeds = given.samples(data, found, preprocess, samples)
    if feeds is None:
        raise ModelError("tune measures candidates on samples of the inputs: give data")
    if not runtime.available():
        raise ModelError(f"tune measures candidates in onnxruntime, which is not installed: {install_hint('ort')}")
    if len(feeds) < LEAST:
        raise ModelError(
            f"the data have {len(feeds)} samples; the search needs {LEAST}, half of which judge its result"
        )
    chosen, asked_rules = given.option_values(options, settings, rules), given.rule_list(rules, select, ignore)
    gpu = Device.named(device)
    asked = Asked(
        model=model,
        proto=found,
        source=source,
        folder=place,
        rules=asked_rules,
        options=chosen,
        samples=feeds,
        reference=reference,
        evaluate=evaluate,
        provider=provider,
        memory=given.byte_count(memory),
        roofline=Roofline(gpu, shares_of(gpu, measured)),
        floats="" if fp32 else "FP16",
        progress=progress,
    )
    with starting(asked) as starts:
        by_name = {each.start.name: each for each in starts}
        known = _depends_on(asked)
        values = choices({name: each.start.decisions for name, each in by_name.items()})
        run = json.dumps([__version__, content(found, place), known, values], sort_keys=True)
        memo = Trials(storage or "", STUDY, hashlib.sha256(run.encode()).hexdigest(), values)

        def measure(candidate: Candidate, how: How) -> Found:
            return by_name[candidate.start].start.found(candidate, how)

        def ask(candidates: Sequence[Candidate], *, how: How) -> list[Found]:
            return memo.measured(candidates, measure, how=how, progress=progress)

        everything = searched([each.start for each in starts], ask, seed=seed, trials=trials)
        base = next(m for m in everything if m.candidate == Candidate(starts[0].start.name))
        floats = float_network(starts[0], asked)
        tried = None if library is None else Builds(library, builds, memo, asked, by_name, progress)
        speed = floats if tried is None else tried.floats(floats)
        points = choosable(everything, base, budget, floats, tried)
        own = next((m for m in points if m.candidate == base.candidate), base)
        clocked = tried is not None and tried.clocked
        winner, real = best(points, own.found, budget, speed, by_name, clocked=clocked)
        result = as_repair(asked, by_name[winner.candidate.start], winner.candidate)
        outcome = Outcome(
            file=source.name,
            device=gpu.name,
            budget=budget,
            data=feeds.description,
            samples=len(feeds),
            seed=seed,
            chosen=Point.of(winner, engine_of(tried, winner.candidate)),
            real=real,
            base=Point.of(own, engine_of(tried, base.candidate)),
            floats=Point(FLOATS, Candidate(FLOATS), speed),
            front=tuple(Point.of(m, engine_of(tried, m.candidate)) for m in front(points, own.found)),
            left=left_findings(starts[0], asked),
            candidates=len(everything),
            builds=0 if tried is None else tried.count,
            notes=(*(() if clocked else close_times(own.found, speed, asked)), *(() if tried is None else tried.notes)),
        )
    made = None
    if provenance:
        limits: dict[str, Any] = {"budget_db": budget_db, "max_drop": max_drop, "min_speed": min_speed}
        limits |= {"max_slower": max_slower, "library": library}
        chosen_by = {name: value for name, value in limits.items() if value is not None}
        made = Run("tune", {**known, **chosen_by, "candidate": msgspec.to_builtins(winner.candidate)})
    return Tuned(written(result, Source(source, place, found), output, plan, force, progress, made), outcome)


@public()
def tune_status(storage: str) -> SearchStatus:
    """How far the search in a storage is; it may be running.

    Raises:
        ModelError: optuna is missing, or the storage cannot be opened or contains no search.
    """
    study = opened(storage, STUDY, create=False)
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    found = dict(results(study))
    base = found.get(Candidate(BASE))
    ahead = () if base is None else front((Measured(c, f) for c, f in found.items()), base)
    points = tuple(map(Point.of, ahead))
    return SearchStatus(storage, states.count("COMPLETE"), states.count("RUNNING"), states.count("WAITING"), points)


def _depends_on(asked: Asked) -> Mapping[str, Any]:
    """What the results of a search depend on beside the model; those of more trials begin with those of fewer."""
    shares = asked.roofline.shares
    return depends_on(
        asked.options,
        asked.rules,
        data=asked.samples.digest,
        reference=content_of(asked.reference),
        evaluate=asked.evaluate is not None and function_name(asked.evaluate),
        provider=asked.provider != "cpu" and asked.provider,
        device=asked.roofline.device.name,
        shares=shares != default_shares() and msgspec.to_builtins(shares),
        fp32=not asked.floats,
    )
