"""What counts as a gain: a search decides by few samples, so a gain may be an accident of these."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..verify.sensitivity.levels import Level, Sampled
from .found import Found

SCORE_NOISE = 0.005
"""The share of a score that is noise: the standard error of an accuracy on 2,000 inputs is 0.3 to 1 %."""
TIE = 1e-6
"""What a dB counts among scores that are equal."""


def gained(found: Found, base: Found) -> float:
    """What a candidate surely gains over the repaired model in quality.

    In dB it is the least of the gains on the two halves of the samples, and of the mean over all samples less its
    standard error; of an output that ends in a Softmax or Sigmoid, the dB at the input of that operator count. A score
    does not say how sure it is: scores within `SCORE_NOISE` of each other, above or below, are equal, and of these the
    one with the larger gain in dB gains more; a larger gain counts if that in dB is sure too.
    """
    sure, score = surely(base.deciding, found.deciding), scored(base.searched, found.searched)
    if score is not None:
        if score:
            return min(score, 0.0) if sure is not None and sure <= 0 else score
        return 0.0 if sure is None else sure * TIE
    gains = [lead(*pair) for pair in zip(found.deciding, base.deciding, strict=False)]
    return min(gains if sure is None else [*gains, sure])


def scored(before: Level, after: Level) -> float | None:
    """What a score gains; 0 if the scores are equal within their noise, None without scores."""
    if before.score is None or after.score is None:
        return None
    gain, larger = after.score - before.score, max(abs(before.score), abs(after.score))
    return gain if abs(gain) > SCORE_NOISE * larger else 0.0


def lead(after: Level, before: Level) -> float:
    """By how much one level is above another: the score, or, without scores or with equal ones, the dB."""
    if gain := scored(before, after):
        return gain
    if before.sqnr_db is None or after.sqnr_db is None:
        return 0.0
    return after.sqnr_db - before.sqnr_db


def surely(before: Sequence[Sampled], after: Sequence[Sampled], errors: float = 1.0) -> float | None:
    """The mean gain of the samples in dB, less so many standard errors; None if it is not known."""
    old, new = (np.array([db for level in levels for db in level.samples_db]) for levels in (before, after))
    if len(old) != len(new) or len(old) < 2:
        return None
    gains = new - old
    return float(gains.mean() - errors * gains.std(ddof=1) / math.sqrt(len(gains)))


def dominated(one: Found, other: Found) -> bool:
    """Whether `one` is no better than `other` in time and in quality, on either half, and worse in one."""
    worse = [one.ms - other.ms, *(lead(*pair) for pair in zip(other.levels, one.levels, strict=False))]
    return all(each >= 0 for each in worse) and any(each > 0 for each in worse)
