"""What tests of the search share: a network, its starts, and measured candidates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import qdqgraph
from qdqgraph.api.starting import Asked, Repaired, starting
from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.engines.timing.device import Device
from qdqgraph.engines.timing.roofline import Roofline, default_shares
from qdqgraph.repair.options import Options
from qdqgraph.search.decisions import FLOAT, Candidate, Decision
from qdqgraph.search.found import Found
from qdqgraph.search.front import Measured
from qdqgraph.verify.sensitivity.levels import Sampled
from tests.support.models import build

MODEL = """g (float[1,4,32,32] x) => (float[1,4,32,32] y) {
    a = t.conv4 (x, s1)  b = Relu (a)  c = t.conv4 (b, s2)  d = Tanh (c)  e = t.conv4 (d, s3)
    h = Concat <axis = 1> (b, e)  y = t.conv8 (h, s4) }"""
"""Four layers, a Concat whose inputs must share a scale, and a Tanh that needs another one."""


def samples(count: int = 6) -> list[dict[str, np.ndarray]]:
    """Samples of its input."""
    random = np.random.default_rng(0)
    return [{"x": random.normal(0, 4, (1, 4, 32, 32)).astype(np.float32)} for _ in range(count)]


@contextmanager
def starts_of(text: str) -> Iterator[tuple[Repaired, ...]]:
    """The starts of a network with four channels of 32 x 32."""
    model = build(text)
    asked = Asked(
        model=model,
        proto=model,
        source=Path("model.onnx"),
        folder=Path(),
        rules=qdqgraph.rules(),
        options=Options(),
        samples=samples_of(samples(), model),
        reference=None,
        evaluate=None,
        provider="cpu",
        memory=2**31,
        roofline=Roofline(Device.named("a100"), default_shares()),
        floats="FP16",
        progress=lambda message: None,
    )
    with starting(asked) as found:
        yield found


def level(db: float, *samples: float) -> Sampled:
    """A quality in dB, over all samples and of each."""
    return Sampled(db, {"y": db}, None, samples)


def point(number: int, ms: float, db: float, held: float | None = None) -> Measured:
    """A measured candidate with one decision, of this number."""
    return Measured(Candidate("s", (Decision(str(number), FLOAT),)), Found(ms, 0, level(db), level(held or db)))


def scored(number: int, score: float, *samples: float) -> Measured:
    """The same with a score, and dB of each sample on both halves."""
    db = sum(samples) / len(samples)
    both = Sampled(db, {"y": db}, score, samples)
    return Measured(Candidate("s", (Decision(str(number), FLOAT),)), Found(1, 0, both, both))
