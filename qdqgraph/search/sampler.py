"""`proposed`: candidates by Optuna's TPE sampler, from what was measured so far and nothing else, so that every process
of a search proposes the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .alone import Alone
from .decisions import AS_IS, Candidate
from .found import Found
from .front import Measured
from .gains import gained
from .trials import START, choices, parameter, parameters

SUBJECTS = 24
"""The decisions that are sampled: those that matter most alone."""


def proposed(
    measured: Sequence[Measured], base: Found, alone: Mapping[str, Sequence[Alone]], seed: int, count: int
) -> list[Candidate]:
    """Candidates that are likely to be ahead of the front.

    Args:
        measured: what was measured so far.
        base: what was measured of the repaired model.
        alone: what each decision changes alone, by start.
        seed: of the sampler.
        count: the number of candidates.
    """
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution

    spaces = {name: [a.decision for a in _first(each)] for name, each in alone.items()}
    known = choices(spaces)
    distributions: dict[str, BaseDistribution] = {n: CategoricalDistribution(options) for n, options in known.items()}
    by_parameter = {(name, parameter(d), d.option): d for name, decisions in spaces.items() for d in decisions}
    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, constant_liar=True),
    )
    for each in sorted(measured, key=lambda m: m.candidate):
        given = parameters(each.candidate)
        sampled = {name: value for name, value in given.items() if value in known.get(name, ())}
        full = dict.fromkeys(known, AS_IS) | sampled
        goals = [each.found.ms, -gained(each.found, base)]
        study.add_trial(optuna.trial.create_trial(params=full, distributions=distributions, values=goals))
    made = []
    for _ in range(count):
        trial = study.ask(distributions)
        start = str(trial.params[START])
        found = (by_parameter.get((start, name, str(value))) for name, value in trial.params.items())
        made.append(Candidate(start).with_(*(d for d in found if d is not None)))
    return made


def _first(alone: Sequence[Alone]) -> list[Alone]:
    """The decisions that change most alone, for one subject the best option."""
    ordered = sorted(alone, key=lambda a: (-abs(a.better), a.decision))
    found: dict[str, Alone] = {}
    for each in ordered:
        found.setdefault(parameter(each.decision), each)
    return list(found.values())[:SUBJECTS]
