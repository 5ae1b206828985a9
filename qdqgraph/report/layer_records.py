"""The error of each layer in `--json` and as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ..calibration.layers.errors import LayerError
from ..printable import printable
from ..verify.layers import Accuracy, LayerRow, QuantizedInput

COLUMNS = (
    "layer",
    "node",
    "op",
    "sqnr_alone_db",
    "sqnr_accumulated_db",
    "cosine_alone",
    "cosine_accumulated",
    "largest_alone",
    "largest_accumulated",
    "inputs",
    "scales",
    "clipped",
    "findings",
    "bytes",
    "groups",
    "group_sites",
)
"""The columns of the CSV. Several inputs, scales, shares or codes of a row are separated by spaces; an unknown scale or
share is "?"."""


@dataclass(frozen=True)
class LayerErrorRecord:
    """The difference of a layer's output from the float network's; values that are not finite are null."""

    sqnr_db: Annotated[
        float | None,
        Meta(description="SQNR in dB; null if there is no difference (`largest` is then 0), or a value is not finite."),
    ]
    cosine: float | None
    largest: Annotated[float | None, Meta(description="The largest absolute difference, in the units of the tensor.")]

    @classmethod
    def of(cls, found: LayerError) -> LayerErrorRecord:
        """The record of an error."""
        return cls(found.sqnr, found.cosine, found.largest)


@dataclass(frozen=True)
class QuantizedInputRecord:
    """A tensor that a layer reads through a Q/DQ pair."""

    site: str
    scale: Annotated[float | None, Meta(description="Null if it is per-channel or not constant.")]
    clipped: Annotated[
        float | None, Meta(description="The share of values, 0 to 1, that the scale clips; null if unknown.")
    ]
    group: Annotated[
        str,
        Meta(
            description="The sites that share its scale, or will after the repair, by their anchor or first site; the "
            "site itself if no tie names it."
        ),
    ]
    group_sites: Annotated[int, Meta(description="The number of sites of the group.")]

    @classmethod
    def of(cls, found: QuantizedInput) -> QuantizedInputRecord:
        """The record of an input."""
        return cls(found.site, found.scale, found.clipped, found.group.name, found.group.sites)


@dataclass(frozen=True)
class LayerRecord:
    """One layer, by its output tensor: its error with float inputs, and accumulated in the quantized network."""

    layer: str
    node: str
    op: str
    alone: LayerErrorRecord
    accumulated: LayerErrorRecord
    inputs: tuple[QuantizedInputRecord, ...]
    findings: Annotated[tuple[str, ...], Meta(description="Codes of the findings at the layer and at its inputs.")]
    bytes: Annotated[
        int, Meta(description="Bytes of activations that its kernel moves per run, by the forecast; 0 if unknown.")
    ]

    @classmethod
    def of(cls, row: LayerRow) -> LayerRecord:
        """The record of a layer."""
        return cls(
            layer=row.layer,
            node=row.node,
            op=row.op,
            alone=LayerErrorRecord.of(row.alone),
            accumulated=LayerErrorRecord.of(row.accumulated),
            inputs=tuple(map(QuantizedInputRecord.of, row.inputs)),
            findings=row.findings,
            bytes=row.bytes,
        )


@dataclass(frozen=True)
class ScoresRecord:
    """The score of the task, by the function of --eval; higher is better."""

    unquantized: float
    quantized: float
    difference: Annotated[float, Meta(description="Quantized minus unquantized.")]


@dataclass(frozen=True)
class AccuracyRecord:
    """The output of `qdqgraph error --json`: layers, worst first; layers that were not compared, with the reason."""

    file: str
    model: Annotated[str, Meta(description="sha256 of the nodes and constants of the model.")]
    samples: int
    data: str
    layers: tuple[LayerRecord, ...]
    skipped: dict[str, str]
    notes: tuple[str, ...]
    score: Annotated[ScoresRecord | None, Meta(description="Null without --eval.")]

    @classmethod
    def of(cls, file: str, found: Accuracy) -> AccuracyRecord:
        """The record of a measurement."""
        rows = tuple(map(LayerRecord.of, found.layers))
        score = None
        if (both := found.scores) is not None:
            score = ScoresRecord(both.unquantized, both.quantized, both.difference)
        samples = found.samples
        return cls(file, found.model, samples, found.data, rows, dict(found.skipped), found.notes, score)


def table(found: Accuracy) -> str:
    """The layers as CSV with a head of `COLUMNS`, worst first, without a newline at the end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found.layers:
        both = (row.alone, row.accumulated)
        writer.writerow(
            (
                printable(row.layer),
                printable(row.node),
                row.op,
                *(e.sqnr for e in both),
                *(e.cosine for e in both),
                *(e.largest for e in both),
                printable(" ".join(i.site for i in row.inputs)),
                " ".join("?" if i.scale is None else str(i.scale) for i in row.inputs),
                " ".join("?" if i.clipped is None else str(i.clipped) for i in row.inputs),
                " ".join(row.findings),
                row.bytes,
                printable(" ".join(i.group.name for i in row.inputs)),
                " ".join(str(i.group.sites) for i in row.inputs),
            )
        )
    return text.getvalue().rstrip("\n")
