"""Records of what a repair changed in a model, for `records`."""

from __future__ import annotations

from dataclasses import dataclass

from ..fp16 import Fp16Model
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
