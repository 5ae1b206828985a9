"""Records of what a repair changed in a model, for `records`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ..fp16 import Fp16Model
from ..repair.corrections import Correction
from ..repair.solution import Change
from ..repair.start import OpsetRaise


@dataclass(frozen=True)
class PairsRecord:
    """Activation pairs of a model before and after its repair."""

    before: int
    after: int
    added: int
    removed: int


@dataclass(frozen=True)
class OpsetRecord:
    """A raised opset: its version before and after, and the reason."""

    before: int
    after: int
    why: str

    @classmethod
    def of(cls, found: OpsetRaise) -> OpsetRecord:
        """The record of a raised opset."""
        return cls(found.before, found.after, found.why)


@dataclass(frozen=True)
class ChangeRecord:
    """A tensor whose scale changed; `bits_lost` is negative if the new range clips.

    `method` is how the scale was chosen on data, where `bits_lost` is measured; "" without data.
    """

    tensor: str
    own_scale: float
    new_scale: float
    bits_lost: float
    method: str

    @classmethod
    def of(cls, change: Change) -> ChangeRecord:
        """The record of a change."""
        return cls(change.site, change.own, change.new, change.lost, change.method)


@dataclass(frozen=True)
class CorrectedLayerRecord:
    """A layer with corrected constants; SQNR in dB of the layer alone, on samples they were not computed from.

    Equalization corrects pairs of layers: `upstream` is the first of them, and the SQNR is what the ranges of the
    channels let expect. "" for the other steps.
    """

    layer: str
    before_db: float
    after_db: float
    upstream: str


@dataclass(frozen=True)
class OutputsRecord:
    """SQNR of the outputs in dB without and with a step, mean over outputs and samples; the standard error of the
    difference."""

    before_db: float
    after_db: float
    noise_db: float


@dataclass(frozen=True)
class CorrectionRecord:
    """A step on data after the repairs, such as bias correction.

    `kept` is false if the outputs became worse by more than the noise, after equalization if they did not become better
    by more than the noise; the constants are then the original ones.
    """

    name: str
    kept: bool
    examined_layers: int
    layers: tuple[CorrectedLayerRecord, ...]
    outputs: Annotated[
        OutputsRecord | None, Meta(description="On the held-back samples; null if no layer was corrected.")
    ]

    @classmethod
    def of(cls, done: Correction) -> CorrectionRecord:
        """The record of a step."""
        layers = tuple(CorrectedLayerRecord(c.layer, c.before, c.after, c.upstream) for c in done.layers)
        gain = done.gain
        outputs = None if gain is None else OutputsRecord(gain.before, gain.after, gain.noise)
        return cls(done.name, done.kept, done.examined, layers, outputs)


@dataclass(frozen=True)
class KeptRecord:
    """A node that stays FP32, and why."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Fp16Record:
    """The result of `--fp16`; `scale_change` is the largest relative change of a scale by rounding to FP16."""

    casts: int
    scale_change: float
    stays_fp32: tuple[KeptRecord, ...]

    @classmethod
    def of(cls, half: Fp16Model) -> Fp16Record:
        """The record of a model in FP16."""
        return cls(half.casts, half.scale_change, tuple(KeptRecord(k.node, k.op, k.reason) for k in half.kept))
