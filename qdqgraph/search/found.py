"""`Found`: what was measured of a candidate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from ..verify.sensitivity.levels import Level, Sampled


class How(StrEnum):
    """What is measured of a candidate."""

    SEARCHED = "the samples of the search"
    BOTH = "both halves"
    """The held-back samples, and the score, too."""
    ALONE = "alone"
    """On the samples of the search, the sites of its decisions quantized and everything else in floating point."""


@dataclass(frozen=True)
class Found:
    """What was measured of a candidate.

    Attributes:
        ms: its estimated time.
        bytes: bytes of activations that its kernels read and write per run, by the forecast.
        searched: its quality on the samples of the search.
        held: its quality on the held-back samples; None if it was not measured.
        before: `levels` at the inputs of the Softmax and Sigmoid operators that outputs end in; empty if none does.
    """

    ms: Annotated[float, Meta(description="The estimated time of a run; it ranks, it does not predict.")]
    bytes: int
    searched: Sampled
    held: Sampled | None
    before: Annotated[
        tuple[Sampled, ...],
        Meta(
            description="The quality on both halves at the inputs of the Softmax and Sigmoid operators that "
            "outputs end in, by which the search decides; empty if none does."
        ),
    ] = ()

    @property
    def levels(self) -> tuple[Sampled, ...]:
        """Its quality on each half of the samples that was measured."""
        return (self.searched,) if self.held is None else (self.searched, self.held)

    @property
    def deciding(self) -> tuple[Sampled, ...]:
        """What decides of its quality on each half: before a Softmax or Sigmoid."""
        return self.before or self.levels

    @property
    def quality(self) -> float:
        """What the search maximizes: the score if there is one, else the SQNR in dB."""
        return quality(self.searched)


def quality(level: Level) -> float:
    """The score of a level if there is one, else its SQNR in dB."""
    found = level.sqnr_db if level.score is None else level.score
    assert found is not None
    return found
