"""`EngineNumbers`: where an engine's numbers differ from ONNX Runtime's, kernel by kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ...calibration.data.samples import of_all
from ...calibration.statistics.running import DEFAULT_MEMORY, Running
from ...errors import counted
from ...graph.graph import Graph, label
from ...log import Progress, log_step
from ..layers import Engine
from .comparison import Compared, Comparison, Sums, comparison
from .kinds import ASSUMPTIONS, LABEL, kinds


@dataclass(frozen=True)
class Difference:
    """The difference of an engine's values of a tensor from ONNX Runtime's, over all samples.

    Attributes:
        sqnr: 10·log10(Σ value² / Σ difference²) in dB, of ONNX Runtime's values; of the dequantized integers where the
            engine stores INT8. inf without a difference, nan if a value is not finite.
        largest: the largest absolute difference, in the units of the tensor.
        differ: the share of INT8 values that differ, 0 to 1; None if the tensor is not quantized.
        steps: their largest difference in steps; None likewise.
    """

    sqnr: float
    largest: float
    differ: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class KernelRow:
    """One kernel of the engine.

    Attributes:
        kernel: its output tensor.
        nodes: the ONNX nodes that it computes.
        kind: what engines call it.
        precision: the precision that it computes in.
        stored: the precision in which its result is stored.
        scale: the scale of its result, in the units of the tensor; None if it is not quantized.
        alone: the difference if its inputs are those that ONNX Runtime computes.
        accumulated: the difference in the whole engine.
        reasons: names of `kinds.KINDS`: why it differs alone.
    """

    kernel: str
    nodes: tuple[str, ...]
    kind: str
    precision: str
    stored: str
    scale: float | None
    alone: Difference
    accumulated: Difference
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class EngineScores:
    """The score of a task, higher is better, in ONNX Runtime and as the engine computes it."""

    runtime: float
    engine: float


@dataclass(frozen=True)
class EngineNumbers:
    """Where an engine's answers differ from ONNX Runtime's, computed on a CPU.

    Attributes:
        engine: the TensorRT generation, such as "trt-10".
        kernels: the kernels, the largest share of differing INT8 values alone first, then the lowest SQNR alone.
        outputs: the difference of each network output; None if the two have different shapes.
        skipped: kernels that are not compared, by output tensor, with the reason.
        samples: the number of samples.
        data: where the samples come from.
        notes: what is assumed, one sentence each; the first says that it is not verified on a GPU.
        scores: the score of the task; None if it was not asked for.
    """

    engine: str
    kernels: tuple[KernelRow, ...]
    outputs: Mapping[str, Difference | None]
    skipped: Mapping[str, str]
    samples: int
    data: str
    notes: tuple[str, ...]
    scores: EngineScores | None = None

    def __repr__(self) -> str:
        found = f"{counted(len(self.kernels), 'kernel')} on {counted(self.samples, 'sample')}"
        return f"<EngineNumbers {self.engine}: {found}>"


def numbers(
    graph: Graph,
    engine: Engine,
    feeds: Iterable[Mapping[str, np.ndarray]],
    data: str,
    *,
    memory: int = DEFAULT_MEMORY,
    progress: Progress = log_step,
) -> EngineNumbers:
    """Compares the numbers of an engine with those of ONNX Runtime, with graph optimizations disabled.

    Args:
        graph: the Q/DQ graph, without local functions, for the engine's target.
        engine: its forecast.
        feeds: the samples.
        data: where they come from.
        memory: the limit for the peak resident memory of the process, in bytes.
        progress: called with one line after each sample.

    Raises:
        ModelError: onnxruntime is missing, or it cannot run the network on the samples, or one node alone needs more
            memory.
    """
    both = comparison(graph, engine)
    scalars = [name for c in both.kernels for s in _sums(c) for name in s.names]
    largest = {name for c in both.kernels for s in _sums(c) for name in (s.largest, s.steps)}
    results = [name for names in both.outputs.values() for name in names]
    running = Running(both.model, graph.folder, (*scalars, *results), memory)
    sums, ends = dict.fromkeys(scalars, 0.0), {name: _Output() for name in both.outputs}
    number = 0
    for number, feed in enumerate(feeds, 1):
        kept: dict[str, np.ndarray] = {}
        for name, value in running.run(feed):
            if name not in sums:
                kept[name] = np.array(value)
            else:
                sums[name] = max(sums[name], float(value)) if name in largest else sums[name] + float(value)
        for name, (reference, found) in both.outputs.items():
            ends[name].add(kept[reference], kept[found])
        progress(f"compared kernels on sample {number}{of_all(feeds)}")
    rows = sorted((_row(graph, c, sums, both) for c in both.kernels), key=_order)
    outputs = {name: end.difference() for name, end in ends.items()}
    unfit = (f"{node} is computed in FP32: {why}" for node, why in both.unfit.items())
    notes = (LABEL, *engine.notes[:1], *ASSUMPTIONS, *unfit)
    return EngineNumbers(graph.target.name, tuple(rows), outputs, both.skipped, number, data, notes)


class _Output:
    """The differences of a network output, over samples."""

    def __init__(self) -> None:
        self.signal = self.noise = self.largest = 0.0
        self.alike = True

    def add(self, reference: np.ndarray, found: np.ndarray) -> None:
        self.alike = self.alike and reference.shape == found.shape
        if self.alike and reference.size and reference.dtype.kind in "fiub":
            one, two = (a.astype(np.float64) for a in (reference, found))
            with np.errstate(invalid="ignore"):  # infinite values
                apart = np.where(one == two, 0.0, two - one)
            self.signal += float((one**2).sum())
            self.noise += float((apart**2).sum())
            self.largest = float(np.maximum(self.largest, np.abs(apart).max()))

    def difference(self) -> Difference | None:
        return Difference(_sqnr(self.signal, self.noise), self.largest) if self.alike else None


def _sums(compared: Compared) -> tuple[Sums, ...]:
    return (compared.accumulated,) if compared.alone is None else (compared.alone, compared.accumulated)


def _row(graph: Graph, compared: Compared, sums: Mapping[str, float], both: Comparison) -> KernelRow:
    block = compared.block
    layer, core = block.layer, block.core
    exact = block.quantized and core is not None and label(core) not in both.unfit
    alone, whole = (None if s is None else _difference(s, sums) for s in (compared.alone, compared.accumulated))
    assert whole is not None
    if alone is None:
        alone = Difference(math.inf, 0.0, None if whole.differ is None else 0.0, None if whole.steps is None else 0)
    reasons = kinds(graph, block, exact=exact)
    names = tuple(map(label, block.nodes))
    stored, scale = compared.stored, compared.scale
    return KernelRow(block.end, names, layer.kind, layer.precision, stored, scale, alone, whole, reasons)


def _difference(names: Sums, sums: Mapping[str, float]) -> Difference:
    sqnr = _sqnr(sums[names.signal], sums[names.noise])
    if not names.differ:
        return Difference(sqnr, sums[names.largest])
    share = sums[names.differ] / max(1.0, sums[names.size])
    return Difference(sqnr, sums[names.largest], share, int(sums[names.steps]))


def _sqnr(signal: float, noise: float) -> float:
    if not (math.isfinite(signal) and math.isfinite(noise)):
        return math.nan
    return math.inf if not noise else -math.inf if not signal else 10 * math.log10(signal / noise)


def _order(row: KernelRow) -> tuple[float, float]:
    """The largest share alone first, then the lowest SQNR alone, not finite before all."""
    sqnr = -math.inf if math.isnan(row.alone.sqnr) else row.alone.sqnr
    return -(row.alone.differ or 0.0), sqnr
