"""`quantize_network`, `rank_layers` and `finetune_network`: the commands of `qdqgraph torch`, each as one call.

Nothing is printed: `progress` receives text after each step, and the returned value contains all results. Errors of the
user's own functions are passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import nn

from ...errors import TorchError
from ...log import Progress, log_step
from ...model.writing.texts import write_text
from ...repair.rounds import check
from ...rulekit import catalog
from ...rulekit.finding import Finding
from ..comparison.compare import Comparison
from ..exporting.export import export
from ..quantizer.choice import Choice
from ..training.checkpoint import read_checkpoint, run_of
from ..training.features import supervised_modules
from ..training.finetune import Finetuned, finetune, run_settings
from ..training.plot import svg
from ..training.ranking import Direction, Sensitivity
from ..training.sensitivity import read_continued, sensitivity, units
from ..training.settings import Training, refuse_training
from ..training.state import save
from .checks import (
    existing_ranking,
    refuse_exporting,
    refuse_files,
    refuse_preparation,
    refuse_ranking,
    run_identity,
)
from .options import Exporting, FloatUnits, Network, Preparation
from .session import EpochData, Prepared, Session


@dataclass(frozen=True)
class ExportedNetwork:
    """A quantized network and its ONNX file.

    Attributes:
        prepared: the network, and the result of each step.
        scores: by step, in order: "float", "calibrated", "calibrated again", "fine-tuned"; empty without a function
            that scores.
        path: the file; proto: its content.
        findings: the findings of `qdqgraph.check` in it.
        comparison: how the file in ONNX Runtime agrees with the network; None if it was not compared.
        finetuned: the result of training; None without training.
    """

    prepared: Prepared
    scores: Mapping[str, float]
    path: Path
    proto: onnx.ModelProto
    findings: tuple[Finding, ...]
    comparison: Comparison | None = None
    finetuned: Finetuned | None = None


@dataclass(frozen=True)
class RankedLayers:
    """The cost of each unit's quantization.

    Attributes:
        prepared: the network, and the result of each step.
        ranking: the units, the most expensive first.
        files: the ranking as JSON, CSV and SVG.
    """

    prepared: Prepared
    ranking: Sensitivity
    files: tuple[Path, ...]


def quantize_network(
    network: Network,
    output: Path | str,
    *,
    preparation: Preparation | None = None,
    exporting: Exporting | None = None,
    off: FloatUnits | None = None,
    save_ptq: Path | str | None = None,
    force: bool = False,
    progress: Progress = log_step,
    bar: bool = False,
) -> ExportedNetwork:
    """Quantizes, links, calibrates, scores, exports, checks and compares a network, as `qdqgraph torch quantize` does.

    Args:
        network: the functions that return the network, its data and its score.
        output: the ONNX file.
        preparation: how it is quantized, linked and calibrated; None: `Preparation()`.
        exporting: how the file is written; None: `Exporting()`.
        off: units to leave in float.
        save_ptq: a file for the calibrated state, for `load`.
        force: replace existing files.
        progress: called with text after each step.
        bar: show a progress bar of calibration on a terminal.

    Raises:
        FirstInputError: the network fails on the first input of its data.
        TorchError: options contradict each other or are not supported here, a step fails, or a function of `network`
            returns an unusable value. Nothing is written before everything is calibrated.
        ModelError: a file exists and `force` is not set, or it cannot be written.
        RuleError: a configuration file is wrong, or a rule crashed.
    """
    preparation, exporting, output = preparation or Preparation(), exporting or Exporting(), Path(output)
    refuse_files(_paths(output, save_ptq), force=force)
    refuse_preparation(network, preparation, off)
    refuse_exporting(exporting)
    session = Session(network, progress, bar=bar)
    prepared = session.prepare(preparation, exporting, off)
    if save_ptq is not None:
        save(prepared.model, save_ptq, force=force)
    return _exported(session, prepared, output, preparation, exporting, force=force)


def rank_layers(
    network: Network,
    output: Path | str,
    *,
    preparation: Preparation | None = None,
    direction: Direction = "disable",
    blocks: Sequence[str] | None = None,
    force: bool = False,
    progress: Progress = log_step,
    bar: bool = False,
) -> RankedLayers:
    """Measures the cost of each layer's quantization, as `qdqgraph torch sensitivity` does.

    Args:
        network: as in `quantize_network`; it needs `evaluate`.
        output: the ranking, JSON, with a CSV and an SVG of the same name; an existing one is continued.
        preparation: as in `quantize_network`.
        direction, blocks: as in `sensitivity`.
        force: start a new ranking, and replace existing files.
        progress, bar: as in `quantize_network`.

    Raises:
        TorchError: as in `quantize_network`; or there is no `evaluate`, a block is not a module or has no quantizer, or
            the existing ranking has another model, direction or other units.
        FirstInputError, ModelError, RuleError: as in `quantize_network`.
    """
    preparation, output = preparation or Preparation(), Path(output)
    files = ranking_files(output)
    refuse_files(files, force=force or existing_ranking(output) is not None)
    if network.evaluate is None:
        raise TorchError(f"{network.option('evaluate')} is missing: layers are ranked by a network's score")
    if not force:
        refuse_ranking(network, preparation, output, direction)
    refuse_preparation(network, preparation)

    def refuse_model(model: nn.Module) -> None:
        units(model, blocks)
        if output.exists() and not force:
            read_continued(model, output, direction, blocks)

    session = Session(network, progress, bar=bar)
    prepared = session.prepare(preparation, Exporting(), refuse=refuse_model)
    if force:
        output.unlink(missing_ok=True)
    ranking = sensitivity(
        prepared.model, session.evaluate, direction=direction, blocks=blocks, file=output, progress=progress
    )
    write_text(ranking.to_csv(), files[1], force=True)
    write_text(svg(ranking), files[2], force=True)
    return RankedLayers(prepared, ranking, files)


def finetune_network(
    network: Network,
    output: Path | str,
    *,
    preparation: Preparation | None = None,
    exporting: Exporting | None = None,
    off: FloatUnits | None = None,
    training: Training | None = None,
    supervise: Choice = (),
    stride: int = 1,
    save_ptq: Path | str | None = None,
    save_qat: Path | str | None = None,
    resume: Path | str | None = None,
    restart: bool = False,
    force: bool = False,
    progress: Progress = log_step,
    bar: bool = False,
) -> ExportedNetwork:
    """Quantizes a network as `quantize_network` does and trains it, with the float network as teacher, before it is
    exported, as `qdqgraph torch finetune` does.

    Args:
        network, output, preparation, exporting, off, save_ptq, force, progress, bar: as in `quantize_network`;
            `network.loss` is the loss of the task.
        training: how long and how fast; None: `Training()`.
        supervise, stride: as in `finetune`.
        save_qat: a file for the best trained state, for `load`.
        resume: a file that is written after each epoch, and removed at the end; None: the name of `output` with the
            ending .training.pt. If it exists, the run that was interrupted goes on.
        restart: begin again even if `resume` exists.

    Raises:
        TorchError: as in `quantize_network` and in `finetune`; or `resume` belongs to another run.
        FirstInputError, ModelError, RuleError: as in `quantize_network`.
    """
    preparation, exporting, output = preparation or Preparation(), exporting or Exporting(), Path(output)
    training, resume = training or Training(), training_file(output) if resume is None else Path(resume)
    goes_on = resume.exists() and not restart
    refuse_files([output], force=force)
    refuse_files(_paths(output, save_ptq, save_qat), force=force or goes_on)
    refuse_files([*_paths(output, save_ptq, save_qat), resume], force=True)
    refuse_preparation(network, preparation, off)
    refuse_exporting(exporting)
    refuse_training(training, loss=network.loss is not None)
    identity = run_identity(preparation, exporting, off)
    if goes_on:
        run_of(read_checkpoint(resume), run_settings(training, network.loss) | identity, resume)
    session = Session(network, progress, bar=bar)

    def refuse_model(model: nn.Module) -> None:
        if training.distillation:
            supervised_modules(model, session.float_model, supervise, stride)

    prepared = session.prepare(preparation, exporting, off, refuse_model, resume if goes_on else None)
    if restart:
        resume.unlink(missing_ok=True)
    if save_ptq is not None and not goes_on:
        save(prepared.model, save_ptq, force=force)
    finetuned = finetune(
        prepared.model,
        prepared.float_model,
        EpochData(network.data),
        training=training,
        evaluate=None if network.evaluate is None else session.evaluate,
        loss=network.loss,
        supervise=supervise,
        stride=stride,
        checkpoint=None if save_qat is None else Path(save_qat),
        resume=resume,
        force=force or goes_on,
        identity=identity,
        progress=progress,
    )
    session.score("fine-tuned", prepared.model)
    done = _exported(session, prepared, output, preparation, exporting, finetuned, force=force)
    resume.unlink(missing_ok=True)
    return done


def training_file(output: Path) -> Path:
    """Where an interrupted training run goes on from, unless another file is named."""
    return output.with_suffix(".training.pt")


def ranking_files(output: Path) -> tuple[Path, Path, Path]:
    """The files of a ranking: JSON, CSV and SVG."""
    return output, output.with_suffix(".csv"), output.with_suffix(".svg")


def _exported(
    session: Session,
    prepared: Prepared,
    output: Path,
    preparation: Preparation,
    exporting: Exporting,
    finetuned: Finetuned | None = None,
    *,
    force: bool,
) -> ExportedNetwork:
    proto = export(
        prepared.model,
        prepared.example,
        output,
        opset=exporting.opset,
        dynamo=exporting.dynamo,
        dynamic_batch=exporting.dynamic_batch,
        allow_zero=exporting.allow_zero,
        force=force,
    )
    findings = check(proto, catalog.load() if preparation.rules is None else preparation.rules)
    comparison = session.compare(prepared.model, proto, exporting.compare) if exporting.compare else None
    return ExportedNetwork(prepared, dict(session.scores), output, proto, findings, comparison, finetuned)


def _paths(*files: Path | str | None) -> list[Path]:
    return [Path(file) for file in files if file is not None]
