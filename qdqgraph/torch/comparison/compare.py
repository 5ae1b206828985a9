"""`compare_export`: runs an exported file in ONNX Runtime and compares it with the model that it was exported from."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ...errors import ModelError, TorchError, counted
from ...extras import install_hint
from ...log import Progress, log_step
from ...model import runtime
from ...model.files import read_model
from ..calibration.calibrate import run_first_input
from ..calls.example import map_tensors, run_example
from ..quantizer.quantizer import refuse_meta_tensors
from ..quantizer.wrapped import refuse_wrapped
from .calls import Call, UnfitError, calls_on, quiet_run
from .diagnosis import Diagnosis, diagnose
from .judging import Difference, difference

BATCHES = 2
"""How many batches are compared, unless told otherwise."""
PATIENCE = 3.0
"""Seconds after which progress is reported."""
TRIED = 4
"""How many batches are tried for each that is to be compared: some may not fit the file."""
SHOWN = 3
"""How many places at which the file differs are shown."""


@dataclass(frozen=True)
class Comparison:
    """How the outputs of a file in ONNX Runtime, with its optimizations off, agree with those of the model.

    Attributes:
        outputs: by name, over all batches, each side rounding on its own.
        batches: how many were compared.
        notes: why batches were left out, or the example was used.
        diagnosis: where they begin to differ; None if no output differs by more than arithmetic in another order
            explains.
    """

    outputs: dict[str, Difference]
    batches: int
    notes: tuple[str, ...]
    diagnosis: Diagnosis | None

    @property
    def agrees(self) -> bool:
        """Whether arithmetic in another order, and values on rounding ties, explain every difference."""
        return self.diagnosis is None or not self.diagnosis.starts

    def __str__(self) -> str:
        lines = [f"compared with ONNX Runtime on {_batches(self.batches)}", *self.notes]
        lines += [f"  {name}: {how}" for name, how in self.outputs.items()]
        if self.diagnosis is not None:
            lines += _explained(self.diagnosis)
        return "\n".join(lines)


def _explained(found: Diagnosis) -> list[str]:
    """What a diagnosis shows, in lines."""
    counts = found.integers
    ties = f"{counts.ties:,} of {counts.count:,} integers differ by one, on rounding ties"
    lines = [f"  begins to differ at {start}" for start in found.starts[:1]]
    lines += [f"  differs at {start}" for start in found.starts[1:SHOWN]]
    if len(found.starts) > SHOWN:
        lines.append(f"  differs at {len(found.starts) - SHOWN} more places")
    if not found.starts:
        places = f"{counted(found.places, 'tensor')}, at least {found.least:.0f} dB"
        lines.append(f"  on equal integers every layer agrees: {places}; {ties}")
    if found.unknown:
        names = ", ".join(found.unknown[:SHOWN])
        more = f" and {len(found.unknown) - SHOWN} more" if len(found.unknown) > SHOWN else ""
        lines.append(f"  not compared by layer, no counterpart is known: {names}{more}")
    return lines


def compare_export(
    model: nn.Module,
    file: onnx.ModelProto | Path | str,
    example: Any,
    loader: Iterable[Any] | None = None,
    *,
    batches: int = BATCHES,
    feed: Callable[[nn.Module, Any], Any] | None = None,
    progress: Progress = log_step,
) -> Comparison:
    """Runs a file that `export` wrote in ONNX Runtime, with graph optimizations disabled, and compares its outputs with
    those of the model; if rounding does not obviously explain them, also every layer.

    For the layers, every pair of the file receives the model's integers, so a value that the two round differently
    has no effect on later layers. A layer then agrees but for the last bits, or the export is wrong there.

    Args:
        model: as it was exported; its modes and devices are the same afterwards. It runs on the CPU.
        file: the file, or its content.
        example: the example of the export.
        loader: yields batches, as for `calibrate`; None: the example is the only batch. Of a batch that is larger than
            the file's, the first part is used. If it yields nothing, such as a generator that was used up, the example
            is used.
        batches: how many, 1 or more; the first of them also by layer.
        feed: runs the model on a batch, as for `calibrate`.
        progress: called with a line of text if it takes longer than a few seconds.

    Raises:
        TorchError: `batches` is below 1, the model fails on a batch, or the file has other inputs or outputs.
        ModelError: the file cannot be read, onnxruntime is not installed or cannot run the file.
    """
    if batches < 1:
        raise TorchError(f"batches {batches!r}: give the number of batches to compare, 1 or more")
    if not runtime.available():
        raise ModelError(f"onnxruntime is not installed, which runs the file: {install_hint('ort')}")
    refuse_meta_tensors(model)
    refuse_wrapped(model)
    proto, folder = _read(file)
    session = runtime.Session(proto, folder)
    names = [output.name for output in proto.graph.output]
    precision = _precision(model)
    report = _Slowly(progress)
    notes: list[str] = []
    first: Call | None = None
    expected: list[tuple[NDArray[Any], ...]] = []
    answers: list[list[Any]] = []
    with quiet_run(model):
        for call in _calls(model, proto, example, loader, batches, feed or run_first_input, notes):
            if len(call.outputs) != len(names):
                theirs = counted(len(call.outputs), "tensor")
                raise TorchError(f"the file has {counted(len(names), 'output')}, the model returns {theirs}")
            expected.append(call.outputs)
            answers.extend(session.run([call.feed]))
            first = first or call
            report(f"comparing with ONNX Runtime: {_batches(len(expected))}")
        assert first is not None
        outputs = {
            name: difference([x[i] for x in expected], [np.asarray(x[i]) for x in answers], precision)
            for i, name in enumerate(names)
        }
        diagnosis = None
        if not all(how.explained for how in outputs.values()):
            report("comparing with ONNX Runtime: layer by layer")
            diagnosis = diagnose(model, proto, folder, first, names, precision)
    return Comparison(outputs, len(expected), tuple(notes), diagnosis)


def _calls(
    model: nn.Module,
    file: onnx.ModelProto,
    example: Any,
    loader: Iterable[Any] | None,
    batches: int,
    feed: Callable[[nn.Module, Any], Any],
    notes: list[str],
) -> Iterator[Call]:
    """The model's calls on the batches that fit the file; on the example if none does. Adds notes on the others."""
    count, unfit = 0, ""
    for call in calls_on(
        model, file, example, itertools.islice(() if loader is None else loader, batches * TRIED), feed
    ):
        if isinstance(call, Call):
            count += 1
            yield call
        else:
            unfit = str(call)
        if count == batches:
            break
    if unfit:
        notes.append(f"  left out batches that do not fit the file: {unfit}")
    if count:
        return
    if loader is not None:
        notes.append("  on the example of the export" if unfit else "  on the example of the export: no batch is left")
    on_cpu = map_tensors(lambda x: x.cpu(), example)
    for call in calls_on(model, file, on_cpu, [on_cpu], run_example):
        if isinstance(call, UnfitError):
            raise TorchError(f"the example does not fit the file: {call}")
        yield call


def _read(file: onnx.ModelProto | Path | str) -> tuple[onnx.ModelProto, Path]:
    """The content of a file, and its folder."""
    if isinstance(file, onnx.ModelProto):
        return file, Path()
    return read_model(Path(file)), Path(file).parent


def _precision(model: nn.Module) -> float:
    """The precision of the least precise parameter."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()} or {torch.float32}
    return max(torch.finfo(kind).eps for kind in kinds)


def _batches(number: int) -> str:
    return "1 batch" if number == 1 else f"{number} batches"


class _Slowly:
    """Reports progress after a few seconds of silence."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._last = progress, time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() - self._last > PATIENCE:
            self._progress(line)
            self._last = time.monotonic()
