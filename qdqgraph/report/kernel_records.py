"""The numbers of an engine's kernels in `--json` and as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ..engines.execute.kinds import KINDS, LABEL
from ..engines.execute.numbers import Difference, EngineNumbers, KernelRow
from ..printable import printable

COLUMNS = (
    "kernel",
    "nodes",
    "kind",
    "precision",
    "stored",
    "scale",
    "differ_alone",
    "steps_alone",
    "sqnr_alone_db",
    "largest_alone",
    "differ_accumulated",
    "steps_accumulated",
    "sqnr_accumulated_db",
    "largest_accumulated",
    "reasons",
)
"""The columns of the CSV. Nodes and reasons are separated by spaces; unknown figures are "?"."""


@dataclass(frozen=True)
class DifferenceRecord:
    """The difference of the engine's values of a tensor from ONNX Runtime's; values that are not finite are null."""

    differ: Annotated[
        float | None, Meta(description="The share of INT8 values that differ, 0 to 1; null if it is not quantized.")
    ]
    steps: Annotated[int | None, Meta(description="Their largest difference in steps; null if it is not quantized.")]
    sqnr_db: Annotated[
        float | None,
        Meta(description="SQNR in dB; null if there is no difference (`largest` is then 0), or a value is not finite."),
    ]
    largest: Annotated[float | None, Meta(description="The largest absolute difference, in the units of the tensor.")]

    @classmethod
    def of(cls, found: Difference) -> DifferenceRecord:
        """The record of a difference."""
        return cls(found.differ, found.steps, found.sqnr, found.largest)


@dataclass(frozen=True)
class KernelRecord:
    """One kernel, by its output tensor: its difference from equal inputs, and in the whole engine."""

    kernel: str
    nodes: tuple[str, ...]
    kind: str
    precision: str
    stored: str
    scale: Annotated[float | None, Meta(description="Null if its result is not quantized.")]
    alone: DifferenceRecord
    accumulated: DifferenceRecord
    reasons: Annotated[tuple[str, ...], Meta(description="Keys of `kinds`.")]

    @classmethod
    def of(cls, row: KernelRow) -> KernelRecord:
        """The record of a kernel."""
        return cls(
            kernel=row.kernel,
            nodes=row.nodes,
            kind=row.kind,
            precision=row.precision,
            stored=row.stored,
            scale=row.scale,
            alone=DifferenceRecord.of(row.alone),
            accumulated=DifferenceRecord.of(row.accumulated),
            reasons=row.reasons,
        )


@dataclass(frozen=True)
class EngineScoresRecord:
    """The score of the task, by the function of --eval; higher is better."""

    runtime: Annotated[float, Meta(description="In ONNX Runtime.")]
    engine: Annotated[float, Meta(description="As the engine computes it.")]


@dataclass(frozen=True)
class KindRecord:
    """What a kind of difference is."""

    text: str
    source: str


@dataclass(frozen=True)
class EngineNumbersRecord:
    """The output of `qdqgraph error --as TARGET --json`: kernels, largest share of different INT8 values first."""

    file: str
    engine: str
    evidence: Annotated[str, Meta(description="What these numbers are worth.")]
    samples: int
    data: str
    kernels: tuple[KernelRecord, ...]
    outputs: Annotated[
        dict[str, DifferenceRecord | None], Meta(description="Null where the two outputs have different shapes.")
    ]
    skipped: dict[str, str]
    kinds: dict[str, KindRecord]
    notes: tuple[str, ...]
    score: Annotated[EngineScoresRecord | None, Meta(description="Null without --eval.")]

    @classmethod
    def of(cls, file: str, found: EngineNumbers) -> EngineNumbersRecord:
        """The record of a comparison."""
        return cls(
            file=file,
            engine=found.engine,
            evidence=LABEL,
            samples=found.samples,
            data=found.data,
            kernels=tuple(map(KernelRecord.of, found.kernels)),
            outputs={n: None if d is None else DifferenceRecord.of(d) for n, d in found.outputs.items()},
            skipped=dict(found.skipped),
            kinds={name: KindRecord(*known) for name, known in KINDS.items()},
            notes=found.notes,
            score=None if found.scores is None else EngineScoresRecord(found.scores.runtime, found.scores.engine),
        )


def table(found: EngineNumbers) -> str:
    """The kernels as CSV with a head of `COLUMNS`, without a newline at the end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found.kernels:
        values = (
            row.kernel,
            printable(" ".join(row.nodes)),
            row.kind,
            row.precision,
            row.stored,
            row.scale,
            *(v for d in (row.alone, row.accumulated) for v in (d.differ, d.steps, d.sqnr, d.largest)),
            printable(" ".join(row.reasons)),
        )
        writer.writerow("?" if value is None else value for value in values)
    return text.getvalue().rstrip("\n")
