"""The output of `--json`: records and their encoding. Values that are not finite are null.

`qdqgraph.documents` says what a later version may change, and `qdqgraph.report.documents` derives the schemas from the
types of this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from ..documents import document
from ..engines.builders.prove import Proof
from ..engines.builders.tensorrt import PROOF
from ..engines.compare.diff import Diff
from ..engines.compare.match import KernelGroup
from ..engines.compare.totals import Totals
from ..engines.layers import Engine, Layer
from ..engines.share import Int8Share
from ..rulekit.finding import Finding, Safety, Severity
from .changes import ChangeRecord, CorrectionRecord, Fp16Record, OpsetRecord, PairsRecord
from .numbers import NumbersRecord

if TYPE_CHECKING:
    from .results import Result


@dataclass(frozen=True)
class FindingRecord:
    """One finding; `code` and `place` identify it."""

    code: str
    name: str
    severity: Severity
    safety: Safety
    place: str
    node: str
    message: str
    help: str
    cost_bytes: Annotated[int, Meta(description="Bytes of activations that the defect costs in one run; 0 if unknown.")]
    bits_lost: Annotated[
        float | None,
        Meta(
            description="The largest loss of resolution by its repair, also if that is refused, in bits; "
            "null if no scale changes."
        ),
    ]
    repairable: bool
    refused: str
    sites: Annotated[tuple[str, ...], Meta(description="The tensors of its tie, which must have one scale.")]

    @classmethod
    def of(cls, found: Finding) -> FindingRecord:
        """The record of a finding."""
        return cls(
            code=found.code,
            name=found.name,
            severity=found.severity,
            safety=found.safety,
            place=found.place,
            node=found.node,
            message=found.message,
            help=found.help,
            cost_bytes=found.bytes,
            bits_lost=found.bits_lost,
            repairable=found.repairable,
            refused=found.refused,
            sites=found.tie.sites if found.tie is not None else (),
        )


@dataclass(frozen=True)
class Int8Record:
    """What runs in INT8, by a forecast: layers with weights, tensors stored as INT8, bytes read and written per run."""

    source: str
    weighted_layers: int
    int8_layers: int
    int8_tensors: int
    bytes: int
    tensors_of_unknown_size: int
    refused_for: Annotated[
        tuple[str, ...], Meta(description="Codes of the findings for which TensorRT refuses the file.")
    ]

    @classmethod
    def of(cls, share: Int8Share) -> Int8Record:
        """The record of a share."""
        numbers = (share.weighted, share.int8, share.tensors, share.bytes, share.unsized)
        return cls(share.source, *numbers, share.refused)


@dataclass(frozen=True)
class FileRecord:
    """The findings in one file, and what of it runs in INT8."""

    file: str
    findings: tuple[FindingRecord, ...]
    int8: Int8Record | None
    error: Annotated[str, Meta(description='Why the file cannot be checked; "" if it was.')]


@dataclass(frozen=True)
class FindingsRecord:
    """The output of `qdqgraph check --json`."""

    files: tuple[FileRecord, ...]


@dataclass(frozen=True)
class EngineRecord:
    """Totals of an engine: layers that read or write data, reformats, bytes read and written, ms if measured."""

    name: str
    source: str
    layers: int
    reformats: int
    bytes: int
    time_ms: float | None

    @classmethod
    def of(cls, engine: Engine, totals: Totals) -> EngineRecord:
        """The record of an engine."""
        return cls(engine.name, engine.source, totals.kernels, totals.reformats, totals.bytes, totals.time_ms)


@dataclass(frozen=True)
class KernelsRecord:
    """Layers of engine `a` and of engine `b`, by name, that compute the same nodes."""

    a: tuple[str, ...]
    b: tuple[str, ...]


@dataclass(frozen=True)
class ChangeOfTotalsRecord:
    """The totals of engine `b` minus those of engine `a`, and the change in per cent; null if unknown."""

    layers: int
    reformats: int
    bytes: int
    bytes_percent: float | None
    time_ms: float | None
    time_percent: float | None

    @classmethod
    def of(cls, before: Totals, after: Totals) -> ChangeOfTotalsRecord:
        """The record of two totals."""
        times = (before.time_ms, after.time_ms)
        spent = None if None in times else (after.time_ms or 0.0) - (before.time_ms or 0.0)
        return cls(
            layers=after.kernels - before.kernels,
            reformats=after.reformats - before.reformats,
            bytes=after.bytes - before.bytes,
            bytes_percent=100 * (after.bytes / before.bytes - 1) if before.bytes else None,
            time_ms=spent,
            time_percent=None if spent is None or not before.time_ms else 100 * spent / before.time_ms,
        )


@dataclass(frozen=True)
class DiffRecord:
    """The output of `qdqgraph engine diff --json`: totals, layer names with the largest cost first, and why `b` is
    worse, "" if it is not."""

    a: EngineRecord
    b: EngineRecord
    change: ChangeOfTotalsRecord
    comparable: Annotated[
        bool, Meta(description="Whether the kernels write tensors of equal sizes, so that bytes and times compare.")
    ]
    reformats_removed: tuple[str, ...]
    reformats_added: tuple[str, ...]
    reformats_changed: tuple[KernelsRecord, ...]
    fused_differently: tuple[KernelsRecord, ...]
    precision_changed: tuple[KernelsRecord, ...]
    layout_changed: tuple[KernelsRecord, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    same: int
    worse: str

    @classmethod
    def of(cls, found: Diff, worse: str | None = None) -> DiffRecord:
        """The record of a difference of engines, with another verdict than its own if `worse` is given."""

        def names(layers: Iterable[Layer]) -> tuple[str, ...]:
            return tuple(layer.name for layer in layers)

        def groups(them: Iterable[KernelGroup]) -> tuple[KernelsRecord, ...]:
            return tuple(KernelsRecord(names(group.a), names(group.b)) for group in them)

        return cls(
            a=EngineRecord.of(found.a, found.totals[0]),
            b=EngineRecord.of(found.b, found.totals[1]),
            change=ChangeOfTotalsRecord.of(*found.totals),
            comparable=found.comparable,
            reformats_removed=names(found.reformats_removed),
            reformats_added=names(found.reformats_added),
            reformats_changed=groups(found.reformats_changed),
            fused_differently=groups(found.fused_differently),
            precision_changed=groups(found.precision_changed),
            layout_changed=groups(found.layout_changed),
            only_a=names(found.only_a),
            only_b=names(found.only_b),
            same=found.same,
            worse=found.worse if worse is None else worse,
        )


@dataclass(frozen=True)
class ProofRecord:
    """Engines before and after a repair; `boundary_bytes` are stored between convolution blocks, before and after."""

    claim: str
    forecast: DiffRecord
    tensorrt_rtx: DiffRecord | None
    boundary_bytes: tuple[int | None, int]
    refused: str

    @classmethod
    def of(cls, proof: Proof) -> ProofRecord:
        """The record of a proof."""
        before = None if proof.before is None else proof.before.boundary_bytes
        real = None if proof.real is None else DiffRecord.of(proof.real, proof.worse)
        stored = (before, proof.after.boundary_bytes)
        return cls(PROOF, DiffRecord.of(proof.predicted), real, stored, proof.refused)


@dataclass(frozen=True)
class RepairedInt8Record:
    """What runs in INT8 before and after a repair."""

    before: Int8Record
    after: Int8Record


@dataclass(frozen=True)
class FloatRecord:
    """A weighted layer that `quantize` leaves in floating point."""

    layer: str
    operator: str
    reason: str


@dataclass(frozen=True)
class ResultRecord:
    """The output of `fix`, `quantize` and `strip` with `--json`: findings, every changed scale, and the checks."""

    file: str
    written: str | None
    base_sha256: str
    result_sha256: str
    edits: int
    pairs: PairsRecord
    groups: int
    functions: Annotated[tuple[str, ...], Meta(description="The local functions that were inlined.")]
    opset: OpsetRecord | None
    changes: tuple[ChangeRecord, ...]
    corrections: tuple[CorrectionRecord, ...]
    applied: tuple[FindingRecord, ...]
    left: tuple[FindingRecord, ...]
    fp16: Fp16Record | None
    numeric_check: NumbersRecord | None
    engines: ProofRecord | None
    int8: RepairedInt8Record | None
    floats: Annotated[
        tuple[FloatRecord, ...], Meta(description="The weighted layers that `quantize` left in floating point.")
    ]


def result_json(path: str, out: str | None, result: Result) -> str:
    """The JSON of a repair: of the model at `path`, written to `out`; None if nothing was written."""
    return encoded(
        "result",
        ResultRecord(
            file=path,
            written=out,
            base_sha256=result.plan.base,
            result_sha256=result.plan.result,
            edits=len(result.plan.edits),
            pairs=PairsRecord(result.pairs_before, result.pairs_after, result.pairs_added, result.pairs_removed),
            groups=result.groups,
            functions=result.functions,
            opset=None if result.opset is None else OpsetRecord.of(result.opset),
            changes=tuple(map(ChangeRecord.of, result.changes)),
            corrections=tuple(map(CorrectionRecord.of, result.corrections)),
            applied=tuple(map(FindingRecord.of, result.applied)),
            left=tuple(map(FindingRecord.of, result.left)),
            fp16=None if result.fp16 is None else Fp16Record.of(result.fp16),
            numeric_check=None if result.numbers is None else NumbersRecord.of(result.numbers),
            engines=None if result.engines is None else ProofRecord.of(result.engines),
            int8=None if result.int8 is None else RepairedInt8Record(*map(Int8Record.of, result.int8)),
            floats=tuple(FloatRecord(f.layer, f.operator, f.reason) for f in result.floats),
        ),
    )


def encoded(name: str, record: object) -> str:
    """The record as a document of this name, `qdqgraph.documents.VERSIONS`; values that are not finite become null."""
    return document(name, json.loads(msgspec.json.encode(record)))
