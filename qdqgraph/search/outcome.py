"""`Outcome`: what a search found, as `tune` prints and `tune --json` encodes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ..errors import counted
from ..verify.sensitivity.levels import Sampled
from .budget import Budget
from .decisions import Candidate
from .found import Found
from .front import Measured


@dataclass(frozen=True)
class Built:
    """What a library built of a candidate."""

    library: str
    ms: Annotated[float | None, Meta(description="The median time of a run in milliseconds; null if it is not run.")]
    bytes: Annotated[
        int | None,
        Meta(description="TensorRT-RTX: bytes written between convolution blocks; null for other libraries."),
    ]
    int8: Annotated[int | None, Meta(description="TensorRT-RTX: convolutions that read INT8; null for others.")]
    refused: Annotated[str, Meta(description='Why there is no engine; "" if there is one.')]


@dataclass(frozen=True)
class Point:
    """A candidate of the front, or one that the others are compared with."""

    name: str
    candidate: Candidate
    found: Found
    built: Built | None = None

    @classmethod
    def of(cls, measured: Measured, built: Built | None = None) -> Point:
        """The point of a candidate, named after its start and the number of its decisions."""
        count = len(measured.candidate.decisions)
        more = f" + {counted(count, 'decision')}" if count else ""
        return cls(f"{measured.candidate.start}{more}", measured.candidate, measured.found, built)


@dataclass(frozen=True)
class Left:
    """A finding that remains, and what its repair would change in the repaired model."""

    code: str
    place: str
    reason: str
    bytes: Annotated[int, Meta(description="Bytes of activations per run that the defect costs, by the forecast.")]
    change: Annotated[
        float | None,
        Meta(
            description="What its tie alone would change: dB, or, without a floating-point output, the score. Null "
            "if it has no tie whose scale is known."
        ),
    ]


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        chosen: the candidate that is written.
        real: the quality of the written model, run as it is, on the samples of the search and on the held-back ones.
        base: the repaired model of `fix`, or `quantize`.
        floats: the float network.
        front: the best candidates, fastest first.
        left: findings that the repair leaves.
        candidates: the number of candidates that were measured on both halves of the samples.
        builds: the number of engines that were built.
    """

    file: str
    device: str
    budget: Budget
    data: str
    samples: int
    seed: int
    chosen: Point
    real: tuple[Sampled, Sampled]
    base: Point
    floats: Point
    front: tuple[Point, ...]
    left: tuple[Left, ...]
    candidates: int
    builds: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchStatus:
    """How far a search is, from its storage."""

    storage: str
    measured: int
    started: int
    waiting: int
    front: tuple[Point, ...]
