"""A cell of the matrix measured: does TensorRT-RTX build it before and after, with what convolutions, at what cost.

Needs qdqgraph with its extras ort and tensorrt, and scikit-image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import qdqgraph
from qdqgraph import numerics
from qdqgraph.engines import builder
from qdqgraph.engines.build import Build
from qdqgraph.errors import EngineError
from qdqgraph.finding import Safety

from .networks import NETWORKS, from_wheel, photos, prepared

COARSER = re.compile(r"(\d+\.\d+) bits coarser")
"""How a repair that changes a range names its loss."""
RANGES = ("QDQ401", "QDQ402")
"""Rules whose repairs change a range, UINT8 and a zero-point; other lossy ones move or remove a rounding."""


@dataclass(frozen=True)
class Built:
    """What TensorRT-RTX made of a file: convolutions, those that read INT8, or the reason of the refusal."""

    convolutions: int = 0
    int8: int = 0
    refused: str = ""

    def __str__(self) -> str:
        return "no" if self.refused else f"{self.int8}/{self.convolutions}"


@dataclass(frozen=True)
class Cell:
    """One file, before and after `qdqgraph.fix`.

    Attributes:
        asked: codes of rules whose repairs had to be asked for, since fix alone refused the file.
        bits: the most bits that one named repair loses; `unnamed` counts lossy repairs that do not say how much.
        sqnr: worst output over all photographs in dB: fixed against the exporter's graph.
        exporter, fixed: the same against the float network; nan where there is none.
        exact: whether the bit-exact repairs alone left every output as it was.
        failed: why there is no fixed file, or why it does not build; "" where all is well.
    """

    file: str
    before: Built
    after: Built = Built()
    asked: tuple[str, ...] = ()
    bits: float = 0.0
    unnamed: int = 0
    sqnr: float = math.nan
    exporter: float = math.nan
    fixed: float = math.nan
    exact: bool = False
    failed: str = ""

    def row(self) -> str:
        """One line of the table."""
        network, exporter = self.file.split(".")[:2]
        cells = [exporter, network, str(self.before), str(self.after), ", ".join(self.asked) or "-"]
        cells += [f"{self.bits:.2f}" + (f" ({self.unnamed} unnamed)" if self.unnamed else ""), _db(self.sqnr)]
        cells += [f"{_db(self.exporter)} → {_db(self.fixed)}", "yes" if self.exact else "NO"]
        return "| " + " | ".join(cells) + " |" + (f" FAILED: {self.failed}" if self.failed else "")


COLUMNS = ("exporter", "network", "INT8 conv before", "after", "on request", "bits lost", "SQNR to exporter's dB")
HEAD = f"| {' | '.join(COLUMNS)} | to float dB | exact |"


def _db(value: float) -> str:
    return "equal" if value == math.inf else "-" if math.isnan(value) else f"{value:.1f}"


def built(path: Path) -> Built:
    """What TensorRT-RTX makes of the file, in a process of its own."""
    try:
        layers = builder.built(path, "tensorrt-rtx", Build()).layers
    except EngineError as error:
        return Built(refused=str(error).splitlines()[0][:300])
    convolutions = [layer for layer in layers if layer.kind == "correlation"]
    return Built(len(convolutions), sum(any(t.precision == "INT8" for t in c.inputs) for c in convolutions))


def feeds(model: onnx.ModelProto, network: str) -> list[numerics.Feed]:
    """All photographs as the model reads them."""
    entry = model.graph.input[0]
    kind = onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    return [{entry.name: image.astype(kind)} for image in photos(network)]


def worst(reference: list[list[np.ndarray]], found: list[list[np.ndarray]]) -> float:
    """SQNR in dB of the worst output, each over all photographs."""
    return min(
        numerics.agreement(
            [np.asarray(r[i], np.float32) for r in reference], [np.asarray(f[i], np.float32) for f in found]
        ).sqnr
        for i in range(len(reference[0]))
    )


def fixed(path: Path, asking: Sequence[str]) -> tuple[qdqgraph.Result | None, tuple[str, ...], str]:
    """The repair, the codes it had to be asked for, and why there is none."""
    reason = ""
    for also in ((), tuple(asking)):
        try:
            return qdqgraph.fix(path, also=also), also, ""
        except qdqgraph.QdqgraphError as error:
            reason = " ".join(str(error).split())[:400]
    return None, (), reason


def cell(path: Path, wheels: Path, folder: Path, asking: Sequence[str] = ("QDQ403",)) -> Cell:
    """The file measured; the repaired one is written to `folder`.

    Args:
        asking: rules whose repairs change what the graph computes, asked for only where fix alone refuses the file.
    """
    network = path.name.split(".")[0]
    before = built(path)
    result, asked, reason = fixed(path, asking)
    if result is None:
        return Cell(path.name, before, failed=reason)
    out = folder / path.name
    onnx.save(result.model, out)
    onnx.checker.check_model(str(out))
    after = built(out)
    original = onnx.load(path)
    given = feeds(original, network)
    ours, theirs, bare = (numerics.run(m, given, folder) for m in (original, result.model, result.exact))
    lossy = [f for f in result.applied if f.safety is Safety.LOSSY and f.tie is None]
    said = [max((float(b) for b in COARSER.findall(f"{f.message} {f.help}")), default=None) for f in lossy]
    exporter = final = math.nan
    if NETWORKS[network].path:
        base = prepared(network, from_wheel(network, wheels))
        real = numerics.run(base, feeds(base, network), folder)
        exporter, final = worst(real, ours), worst(real, theirs)
    return Cell(
        path.name,
        before,
        after,
        asked,
        max([*(c.lost for c in result.changes), *(b for b in said if b is not None)], default=0.0),
        sum(b is None for b in said),
        worst(ours, theirs),
        exporter,
        final,
        worst(ours, bare) == math.inf,
        after.refused,
    )
