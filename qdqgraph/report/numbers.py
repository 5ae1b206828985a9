"""The numeric check in `--json`: the agreement of each output, and which side is nearer to float values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ..calibration.agreement import Agreement
from ..verify.verification import Sides, Verification


@dataclass(frozen=True)
class SidesRecord:
    """SQNR in dB of the original and of the repaired model against float values: activations that are not rounded."""

    original_db: float | None
    repaired_db: float | None


@dataclass(frozen=True)
class AgreementRecord:
    """One output compared to the original: whether bit-identical, and its SQNR in dB, null if not finite."""

    identical: bool
    sqnr_db: float | None
    caveat: Annotated[str, Meta(description='Why the output shows nothing or little; "" otherwise.')]
    floats: Annotated[SidesRecord | None, Meta(description="Given where the SQNR is low and the model runs in float.")]

    @classmethod
    def of(cls, found: Agreement, sides: Sides | None) -> AgreementRecord:
        """The record of one output's agreement."""
        floats = None if sides is None else SidesRecord(sides.original, sides.repaired)
        return cls(found.identical, found.sqnr, found.caveat, floats)


@dataclass(frozen=True)
class NumbersRecord:
    """The numeric check, on the user's data ("given") or on seeded noise."""

    outputs: dict[str, AgreementRecord]
    samples: int
    data: Literal["given", "noise"]
    note: str
    skipped: Annotated[str, Meta(description='Why nothing was compared; "" if the outputs were.')]
    reference: Annotated[str, Meta(description="What the repaired model was compared with.")]

    @classmethod
    def of(cls, found: Verification) -> NumbersRecord:
        """The record of a numeric check."""
        outputs = {name: AgreementRecord.of(made, found.floats.get(name)) for name, made in found.outputs.items()}
        data: Literal["given", "noise"] = "given" if found.data else "noise"
        return cls(outputs, found.samples, data, found.note, found.skipped, found.reference)
