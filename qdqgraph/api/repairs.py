"""Functions that change a model: fix, strip, to_fp16."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from ..calibration.data.sources import Data
from ..calibration.methods.percentile import DEFAULT_PERCENTILE
from ..calibration.ranges import measured_ranges
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..calibration.statistics.scales import AUTO
from ..calibration.trial import run_on_noise
from ..engines.forecast.forecast import forecast
from ..engines.forecast.judge import Judge
from ..engines.share import Int8Share
from ..errors import ModelError, RepairError
from ..fp16 import Fp16Model, refuse_target, with_fp16
from ..fp16 import to_fp16 as fp16_around_int8
from ..graph.graph import Graph
from ..model import runtime
from ..model.files import external_files, is_canonical, refuse_to_overwrite, write_model, writing_text
from ..model.protos import names as tensor_names
from ..model.runtime import Feeds
from ..repair import rounds
from ..repair.options import Options
from ..repair.repair import Repair
from ..rulekit.rule import Rule
from ..targets.target import Target
from ..verify.verification import Verification, verify
from . import given
from .given import File, Model, Progress
from .measuring import Calibration, measuring, unknown_tensors

if TYPE_CHECKING:
    from ..engines.builders.prove import Proof


@dataclass(frozen=True)
class Result(Repair):
    """The result of `fix`; see `Repair` for the other attributes.

    Attributes:
        numbers: the agreement of the outputs with the original model; None without `numerics`.
        fp16: the FP16 conversion; None without `fp16`.
        engines: the engines before and after the repair; None without `engines`.
        int8: what runs in INT8 before and after the repair, by the forecast; None for `strip`.
        notes: notes for the user, one sentence each.
    """

    numbers: Verification | None = None
    fp16: Fp16Model | None = None
    engines: Proof | None = None
    int8: tuple[Int8Share, Int8Share] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, repair: Repair, **more: Any) -> Result:
        """Returns a repair with the results of the later steps."""
        return cls(**{f.name: getattr(repair, f.name) for f in fields(Repair)}, **more)


def fix(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    output: File | None = None,
    plan: File | None = None,
    force: bool = True,
    folder: File | None = None,
    fp16: bool = False,
    keep_io: bool = False,
    ranges: Mapping[str, float] | None = None,
    numerics: bool = False,
    data: Data | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    calibrate: str = AUTO,
    percentile: float = DEFAULT_PERCENTILE,
    memory: int = DEFAULT_MEMORY,
    statistics: File | None = None,
    reference: Model | None = None,
    table: File | None = None,
    provider: str = "cpu",
    engines: bool = False,
    allow_worse: bool = False,
    globs: Sequence[str] | None = None,
    progress: Progress = lambda message: None,
    **settings: Any,
) -> Result:
    """Repairs a model, as `qdqgraph fix` does.

    The remaining findings have their predicted cost in bytes, as in `check`. A repair with which the forecast has fewer
    weighted layers in INT8 or more bytes per run is not applied: its finding remains, with these numbers in `refused`,
    unless `also` names its code or TensorRT refuses the file without it.

    Args:
        model: a model, which is not modified, or its path.
        rules: the rules to repair by; the built-in and installed rules by default.
        options: the settings of the repair. They can also be given by name, such as `max_bits_lost=1.5` or
            `target="trt-11"`.
        output: the file of the result, written atomically.
        plan: the file of the plan, for `apply` and `undo`.
        force: overwrite existing files.
        folder: the folder that contains the external data; the folder of the file by default.
        fp16: convert everything outside INT8 to FP16 as the last step, as `to_fp16`.
        keep_io: with `fp16`, graph inputs and outputs keep their types.
        ranges: with `fp16`, as `to_fp16`; measured if None and `numerics` is set.
        numerics: compare the outputs with the original model in ONNX Runtime (extra "ort") before writing.
        data: samples of the inputs: a file of arrays, a folder of them or of pictures, a list of samples, or a function
            that yields them (see `calibration.data.sources.Data`). Scales are then measured (see `calibrate`), and
            `numerics` and the ranges of `fp16` use them; by default these use seeded noise.
        preprocess: for a folder of pictures: how they become inputs, as `--preprocess`.
        samples: how many of the data to use, the first ones; all by default.
        calibrate: with `data`, how scales are chosen: "max", "percentile", "mse", "entropy"; by default "auto", the
            least error at the layers that read a tensor; "none" keeps the scales of the file.
        percentile: with `data`, for the method "percentile", in percent.
        memory: with `data`, the limit for the memory of the process while it measures, in bytes.
        statistics: with `data`, a file for what was measured; a later call with the same network and data reads it.
        reference: with `data`, the float network, for the exact weights.
        table: a file with scales, in place of `data`: a TensorRT calibration cache, AIMET encodings, ONNX Runtime's
            calibration table, or `statistics` of the same network, from which `calibrate` chooses the scales.
        provider: the device for `numerics` and for measuring, "cpu" or "cuda".
        engines: build the model before and after the repair with TensorRT-RTX (extra "tensorrt") before writing; the
            model must be a file.
        allow_worse: with `engines`, write the result even if its engine is worse than that of the original.
        globs: the globs of `only` and `skip` that must match a node or tensor; all by default. A settings file for
            several models may contain globs without a match in this model.
        progress: called with one line before each step.
        settings: fields of `Options` by name.

    Raises:
        ModelError: the model is not quantized, or cannot be read, imported or written; or an option name is unknown, a
            glob matches nothing, or the target does not support FP16 in the file.
        RuleError: `rules` contains an object that is not a rule, a rule crashed, or the policy is unknown.
        RepairError: TensorRT would refuse the graph and no rule repairs that (the message lists the nodes); or a
            repair declared bit-exact is not; or, with `engines`, the engine became worse: fewer convolutions read INT8,
            or more bytes, or more in floating point, are stored between convolution blocks.
        EngineError: TensorRT-RTX is missing, or refuses the repaired model.
        CalibrationError: the statistics are of another network or other samples, or a value for them is unusable.
    """
    asked = given.option_values(options, settings)
    if keep_io and not fp16:
        raise ModelError("keep_io has an effect only with fp16: set both")
    if allow_worse and not engines:
        raise ModelError("allow_worse has an effect only with engines: set both")
    if asked.exact and fp16:
        raise ModelError("fp16 rounds values, so it is not exact: set only one of them")
    _refuse_outputs(output, plan, force)
    if fp16:
        refuse_target(Target.named(asked.target))
    found, place, source = given.read(model, folder)
    if engines and isinstance(model, onnx.ModelProto):
        raise ModelError("engines are built from files: give the path of the model")
    external_files(found, place)
    _refuse_unknown(found, (*asked.only, *asked.skip) if globs is None else globs)
    feeds = given.samples(data, found, preprocess, samples)
    if numerics and runtime.available():
        runtime.provider(provider)
    judge, chosen = Judge(), given.rule_list(rules)
    calibration = Calibration(calibrate, percentile, memory, _path(statistics), reference, _path(table))
    if asked.keep_scales and data is None and table is None:
        raise ModelError("keep_scales has an effect only with data or a table: give one of them")
    measure = None if asked.exact else measuring(calibration, feeds, provider, progress)

    def repaired(read: onnx.ModelProto) -> Repair:
        return rounds.fix(
            read,
            chosen,
            asked,
            folder=place,
            progress=progress,
            price=judge.price,
            refuse=judge.refuse,
            measure=measure,
        )

    repair = repaired(found)
    before, after = judge.shares
    half = numbers = proof = None
    note = ""
    if fp16:
        if ranges is None and numerics and runtime.available():
            progress("measuring ranges in ONNX Runtime")
            ranges, note = _ranges(repair, feeds, place)
        progress("converting to FP16")
        repair, half = with_fp16(found, repair, place, repair=repaired, keep_io=keep_io, ranges=ranges, skip=asked.skip)
        after = Int8Share.of(forecast(Graph(repair.model, place, target=Target.named(asked.target)), ""))
    if numerics:
        progress("comparing outputs in ONNX Runtime")
        numbers = verify(found, repair, place, data=feeds, provider=provider, rules=given.rule_list(rules))
    if engines:
        from ..engines.builders.prove import prove  # only here: most repairs build no engine

        progress("building original and result with TensorRT-RTX")
        proof = prove(source, found, repair.model, Target.named(asked.target))
        if proof.worse and not allow_worse:
            built = "TensorRT-RTX builds a worse engine from the repaired model"
            raise RepairError(f"{built}: {proof.worse}; nothing was written: use --allow-worse to write it")
    fallback = runtime.provider(provider, "the calibration")[1] if measure is not None and table is None else ""
    warnings = (note, fallback, "" if numbers is None else numbers.warning, unknown_tensors(calibration, found))
    notes = tuple(sentence for sentence in warnings if sentence)
    result = Result.of(repair, numbers=numbers, fp16=half, engines=proof, int8=(before, after), notes=notes)
    return _written(result, found, source, output, plan, force, progress)


def strip(
    model: Model,
    nodes: Sequence[str] = (),
    rules: Sequence[Rule] = (),
    *,
    output: File | None = None,
    plan: File | None = None,
    force: bool = True,
    folder: File | None = None,
) -> Result:
    """Removes the pairs at the inputs of chosen layers, so that these run in floating point, as `qdqgraph strip` does.

    Args:
        model: a model, which is not modified, or its path.
        nodes: globs on the names of nodes and of their outputs.
        rules: layers that these rules report are chosen as well.
        output: as `fix`.
        plan: as `fix`.
        force: as `fix`.
        folder: as `fix`.

    Raises:
        ModelError: as `fix`; or a glob matches no node, or no chosen layer is quantized.
    """
    if isinstance(nodes, str):
        raise ModelError(f"nodes is a string; use a tuple of strings: ({nodes!r},)")
    _refuse_outputs(output, plan, force)
    found, place, source = given.read(model, folder)
    result = Result.of(rounds.strip(found, nodes, given.rule_list(rules), folder=place))
    return _written(result, found, source, output, plan, force)


def to_fp16(
    model: Model,
    *,
    output: File | None = None,
    force: bool = True,
    folder: File | None = None,
    note: Progress = lambda sentence: None,
    keep_io: bool = False,
    ranges: Mapping[str, float] | None = None,
    data: Data | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    skip: Sequence[str] = (),
) -> Fp16Model:
    """Converts everything outside INT8 to FP16, for strongly typed TensorRT.

    Args:
        model: a model, which is not modified, or its path.
        output, force, folder: as `fix`.
        note: called with what a user should know of the written file.
        keep_io: graph inputs and outputs keep their types, with one Cast each.
        ranges: the largest magnitude of each tensor, by name; nodes with a tensor beyond FP16's range stay FP32.
        data: inputs to measure `ranges` on if they are None, with ONNX Runtime (extra "ort"); as `fix`.
        preprocess, samples: as `fix`.
        skip: globs on the names of nodes and of their outputs; those nodes stay FP32.

    Raises:
        ModelError: as `fix`; or external data are missing, the data do not fit the model, or a node cannot be
            converted to the opset of FP16 Q/DQ.
    """
    _refuse_outputs(output, None, force)
    found, place, source = given.read(model, folder)
    feeds = given.samples(data, found, preprocess, samples)
    if ranges is None and feeds is not None:
        ranges = measured_ranges(found, feeds, place)
    made = fp16_around_int8(found, place, keep_io=keep_io, ranges=ranges, skip=skip)
    if output is not None and (sentence := write_model(made.model, Path(output), source, force=force)):
        note(sentence)
    return made


def _ranges(repair: Repair, feeds: Feeds | None, folder: Path) -> tuple[Mapping[str, float] | None, str]:
    """Returns the range of each tensor, in the first of the models that onnxruntime runs; a note if it runs none."""
    reason = ""
    for model in (repair.start, repair.exact, repair.model):
        try:
            return measured_ranges(model, run_on_noise(model, folder).feeds if feeds is None else feeds, folder), ""
        except ModelError as error:
            reason = reason or str(error)
    return None, f"no ranges were measured, so nothing stays FP32 because of an overflow of FP16: {reason}"


def _refuse_outputs(output: File | None, plan: File | None, force: bool) -> None:
    """Rejects output files that cannot be written, before the work starts.

    Raises:
        ModelError: as `refuse_to_overwrite`; or both are the same file.
    """
    if output is not None and plan is not None and Path(output).resolve() == Path(plan).resolve():
        raise ModelError(f"{plan} is given for both the model and its plan: use two files")
    for path in (output, plan):
        if path is not None:
            refuse_to_overwrite(Path(path), force=force)


def _path(file: File | None) -> Path | None:
    return None if file is None else Path(file)


def _refuse_unknown(model: onnx.ModelProto, globs: Sequence[str]) -> None:
    """Rejects globs without a match: a typing error there would repair too little or too much.

    Raises:
        ModelError: a glob matches no node and no tensor.
    """
    names = {*(node.name for node in model.graph.node), *tensor_names(model.graph)}
    for glob in globs:
        if not fnmatch.filter(names, glob):
            raise ModelError(f"no node or tensor matches {glob!r}")


def _written(
    result: Result,
    model: onnx.ModelProto,
    source: Path,
    output: File | None,
    plan: File | None,
    force: bool,
    progress: Progress = lambda message: None,
) -> Result:
    """Writes the files of a result, and returns the result with notes about them."""
    notes: list[str] = []
    with ExitStack() as both:
        if plan is not None:  # written first and named last, so that no model exists without its plan
            both.enter_context(writing_text(result.plan.to_json(), Path(plan), force=force))
        if output is not None:
            progress("checking and writing")
            notes.append(write_model(result.model, Path(output), source, force=force))
    if plan is not None and source.is_file() and not is_canonical(source, model):
        effect = "undo restores an equal model, but not the same bytes"
        notes.append(f"{source} is not protobuf's deterministic serialization; {effect}")
    return replace(result, notes=(*result.notes, *filter(None, notes)))
