"""The results of `qdqgraph torch` in `--json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from .records import FindingRecord, encoded

if TYPE_CHECKING:  # importing it would import torch
    from ..torch import ExportedNetwork, RankedLayers


@dataclass(frozen=True)
class StepScoreRecord:
    """The score of the network after a step, by the function of --eval; higher is better, null if infinite."""

    step: Annotated[str, Meta(description='"float", "calibrated", "calibrated again" or "fine-tuned".')]
    score: float | None


@dataclass(frozen=True)
class OutputDifferenceRecord:
    """How an output of the file in ONNX Runtime differs from the network's."""

    output: str
    sqnr_db: Annotated[float | None, Meta(description="In dB; null if there is no difference, or it is not a number.")]
    largest: Annotated[float | None, Meta(description="The largest absolute difference; null if a shape differs.")]
    explained: Annotated[bool, Meta(description="Whether arithmetic in another order explains it.")]
    caveat: Annotated[str, Meta(description='What is special about the output, such as another shape; "" otherwise.')]


@dataclass(frozen=True)
class ComparisonRecord:
    """The comparison of the file in ONNX Runtime with the network."""

    batches: int
    agrees: Annotated[bool, Meta(description="Whether arithmetic in another order explains every difference.")]
    outputs: tuple[OutputDifferenceRecord, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TrainedRecord:
    """What training did."""

    losses: Annotated[tuple[float | None, ...], Meta(description="The mean loss of each epoch.")]
    scores: Annotated[
        tuple[float | None, ...], Meta(description="Before the first and after each epoch; empty without --eval.")
    ]
    best: Annotated[int, Meta(description="The epoch, from 1, whose weights were exported; 0: those before training.")]
    resumed: Annotated[int, Meta(description="The epoch after which an interrupted run went on; 0: it began.")]


@dataclass(frozen=True)
class ExportedRecord:
    """The output of `qdqgraph torch quantize --json` and `finetune --json`: the file, with the result of each step."""

    output: Annotated[str, Meta(description="The ONNX file.")]
    scores: Annotated[tuple[StepScoreRecord, ...], Meta(description="In the order of the steps; empty without --eval.")]
    in_float: Annotated[tuple[str, ...], Meta(description="Layers that --off left in float.")]
    findings: Annotated[tuple[FindingRecord, ...], Meta(description="What `check` finds in the file.")]
    comparison: Annotated[ComparisonRecord | None, Meta(description="Null if it was not made.")]
    training: Annotated[TrainedRecord | None, Meta(description="Null for `quantize`.")]

    @classmethod
    def of(cls, done: ExportedNetwork) -> ExportedRecord:
        """The record of an exported network."""
        compared, trained = done.comparison, done.finetuned
        return cls(
            output=str(done.path),
            scores=tuple(StepScoreRecord(step, score) for step, score in done.scores.items()),
            in_float=done.prepared.in_float,
            findings=tuple(map(FindingRecord.of, done.findings)),
            comparison=None
            if compared is None
            else ComparisonRecord(
                compared.batches,
                compared.agrees,
                tuple(
                    OutputDifferenceRecord(name, d.sqnr, d.largest, d.explained, d.caveat)
                    for name, d in compared.outputs.items()
                ),
                compared.notes,
            ),
            training=None
            if trained is None
            else TrainedRecord(trained.losses, trained.scores, trained.best, trained.resumed),
        )


@dataclass(frozen=True)
class RankedUnitRecord:
    """Layers, or a block, that are switched together."""

    name: str
    layers: tuple[str, ...]
    score: Annotated[float | None, Meta(description="The network's score with the unit switched.")]
    cost: Annotated[float | None, Meta(description="What its quantization costs, in units of the score.")]


@dataclass(frozen=True)
class RankedRecord:
    """The output of `qdqgraph torch sensitivity --json`: what the quantization of each unit costs, worst first."""

    direction: Annotated[str, Meta(description='"disable": all quantized but one; "enable": only one quantized.')]
    quantized: Annotated[float | None, Meta(description="The score with every unit quantized.")]
    unquantized: Annotated[float | None, Meta(description="The score with no unit quantized.")]
    units: tuple[RankedUnitRecord, ...]
    files: Annotated[tuple[str, ...], Meta(description="The ranking as JSON, CSV and SVG.")]

    @classmethod
    def of(cls, done: RankedLayers) -> RankedRecord:
        """The record of a ranking."""
        found = done.ranking
        return cls(
            direction=found.direction,
            quantized=found.quantized,
            unquantized=found.unquantized,
            units=tuple(RankedUnitRecord(u.name, u.layers, u.score, u.cost) for u in found.units),
            files=tuple(map(str, done.files)),
        )


def exported_json(done: ExportedNetwork) -> str:
    """The document of `qdqgraph torch quantize --json` and `finetune --json`."""
    return encoded("torch", ExportedRecord.of(done))


def ranked_json(done: RankedLayers) -> str:
    """The document of `qdqgraph torch sensitivity --json`."""
    return encoded("torch-sensitivity", RankedRecord.of(done))
