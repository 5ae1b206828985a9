"""What a search chooses from its candidates, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..calibration.statistics.scales import best_scale
from ..engines.forecast.forecast import fused
from ..engines.share import Int8Share
from ..engines.timing.roofline import close
from ..errors import ModelError
from ..graph.graph import Graph
from ..repair import rounds
from ..repair.repair import joined
from ..report.results import Result
from ..search.budget import Budget
from ..search.decisions import Candidate
from ..search.found import Found, How, quality
from ..search.front import Measured, front, spread_out
from ..search.gains import dominated
from ..search.outcome import Built, Left
from ..search.start import HELD, SEARCHED
from ..verify.sensitivity.levels import Sampled
from .starting import Asked, Repaired, with_shapes
from .tried import Builds

FLOATS = "float"


def float_network(first: Repaired, asked: Asked) -> Found:
    """The float network: its estimated time, and its score."""
    shaped = with_shapes(first.start.float_model, asked)
    graph = Graph(shaped, asked.folder, target=first.start.graph.target)
    engine, exact = fused(graph, FLOATS), first.start.measuring.unquantized()
    level = Sampled(exact.sqnr_db, exact.outputs_db, exact.score)
    return Found(asked.roofline.estimate(engine, graph, asked.floats).ms, engine.bytes, level, level)


def choosable(
    everything: Sequence[Measured], base: Measured, budget: Budget, floats: Found, tried: Builds | None
) -> list[Measured]:
    """What can be chosen: everything, or, with a library, what it built, with measured times where it gives them."""
    if tried is None:
        return list(everything)
    likely = budget.ranked(everything, base.found, floats)[: max(1, tried.most // 2)]
    asked = (base, *likely, *spread_out(front(everything, base.found), tried.most))
    return tried.built({m.candidate: m for m in asked}.values())


def best(
    points: Sequence[Measured],
    base: Found,
    budget: Budget,
    floats: Found,
    starts: dict[str, Repaired],
    *,
    clocked: bool,
) -> tuple[Measured, tuple[Any, Any]]:
    """The best candidate within the budget that, run as it is, is not worse than the repaired model."""
    for measured in budget.ranked(points, base, floats, clocked=clocked):
        if dominated(measured.found, base):
            continue
        start = starts[measured.candidate.start].start
        levels = start.run(start.made(measured.candidate))
        real = replace(measured.found, searched=levels[SEARCHED], held=levels[HELD])
        if not dominated(real, base):
            return Measured(measured.candidate, measured.found), (levels[SEARCHED], levels[HELD])
    most = max(points, key=lambda m: m.found.quality)
    fastest = min(points, key=lambda m: m.found.ms)
    unit = "" if most.found.searched.score is not None else " dB"
    raise ModelError(
        f"no candidate has {budget.text}: the most accurate has {most.found.quality:.4g}{unit} at "
        f"{most.found.ms:.4g} ms, the fastest {fastest.found.quality:.4g}{unit} at {fastest.found.ms:.4g} ms "
        f"(float {floats.ms:.4g} ms); "
        "nothing was written"
    )


def as_repair(asked: Asked, chosen: Repaired, candidate: Candidate) -> Result:
    """The chosen model as a repair of the given one."""
    graph, before = chosen.start.made(candidate), chosen.result
    target = graph.target
    share = Int8Share.of(fused(Graph(graph.model, asked.folder, target=target), ""))
    first = before.int8[0] if before.int8 is not None else share
    if not candidate.decisions:
        return before
    after = rounds.between(chosen.start.graph, graph, asked.rules, asked.options)
    both = joined(asked.proto, before, after)
    return Result.of(both, int8=(first, share), notes=before.notes, values=before.values)


def close_times(base: Found, floats: Found, asked: Asked) -> tuple[str, ...]:
    """What to say if the estimate cannot tell the repaired model from the float network."""
    if not close(base.ms, floats.ms):
        return ()
    return (
        f"the estimates for {asked.roofline.device.name} of the repaired model ({base.ms:.4g} ms) and of float "
        f"({floats.ms:.4g} ms) are too close to rank: measure whether INT8 is faster there with --with trtexec, "
        "or name another --device",
    )


def left_findings(first: Repaired, asked: Asked) -> tuple[Left, ...]:
    """What the repairs that `fix` leaves would change, each alone."""
    start, found = first.start, []
    base = Candidate(start.name)
    present = quality(start.found(base, How.SEARCHED).searched)
    for finding in first.result.left:
        sites = () if finding.tie is None else finding.tie.sites
        names = [first.names.get(site, site) for site in sites]
        change = None
        if sites and all(s in start.built.scales for s in sites) and all(n in first.statistics for n in names):
            scale = best_scale([first.statistics[n] for n in dict.fromkeys(names)], "mse").scale
            if scale > 0:
                change = quality(start.scaled(dict.fromkeys(sites, scale))) - present
        found.append(Left(finding.code, finding.place, finding.refused or finding.advice, finding.bytes, change))
    return tuple(found)


def engine_of(tried: Builds | None, candidate: Candidate) -> Built | None:
    """What a library built of a candidate; None if none did."""
    return None if tried is None else tried.found.get(candidate)
