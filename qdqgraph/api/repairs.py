"""Functions that repair a Q/DQ model: fix, to_fp16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..calibration.data.sources import Data
from ..calibration.methods.percentile import DEFAULT_PERCENTILE
from ..calibration.ranges import measured_ranges
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..calibration.statistics.scales import AUTO
from ..fp16 import Fp16Model
from ..fp16 import to_fp16 as fp16_around_int8
from ..model.protos import with_metadata
from ..model.writing.models import External, Source, placed, write_model
from ..model.writing.outputs import refuse_collisions
from ..model.writing.spill import spilling
from ..repair import rounds
from ..repair.options import Options
from ..repair.plan import digest
from ..repair.provenance import PROVENANCE, Run, entry
from ..report.results import Result
from ..rulekit.rule import Rule
from ..versions import Unpack
from . import given
from .call import public
from .dependence import digest_of
from .given import File, Memory, Model, Progress, log_step
from .lightly import lightly
from .measuring import Calibration
from .results import refuse_outputs
from .settings import FixOptions
from .soundness import refuse_unsound
from .steps import Steps


@public(FixOptions)
def fix(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    output: File | None = None,
    plan: File | None = None,
    force: bool = False,
    external: External = "copy",
    folder: File | None = None,
    fp16: bool = False,
    keep_io: bool = False,
    magnitudes: Mapping[str, float] | None = None,
    numerics: bool = False,
    data: Data | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    calibrate: str = AUTO,
    percentile: float = DEFAULT_PERCENTILE,
    memory: Memory = DEFAULT_MEMORY,
    statistics: File | None = None,
    reference: Model | None = None,
    ranges: File | None = None,
    provider: str = "cpu",
    verify: bool = False,
    allow_worse: bool = False,
    globs: Sequence[str] | None = None,
    provenance: bool = True,
    progress: Progress = log_step,
    **settings: Unpack[FixOptions],
) -> Result:
    """Repairs a model, as `qdqgraph fix` does.

    The remaining findings have their predicted cost in bytes, as in `check`. A repair with which the forecast has fewer
    weighted layers in INT8 or more bytes per run is not applied: its finding remains, with these numbers in `refused`,
    unless `also` names its code or TensorRT refuses the file without it.

    Args:
        model: a model, which is not modified, or its path.
        rules: the rules to repair by; the built-in and installed rules by default.
        select, ignore: run only these of the rules, or not these: codes, prefixes of codes, names or globs.
        options: the settings of the repair. They can also be given by name, such as `max_bits_lost=1.5` or
            `target="trt-11"`.
        output: the file of the result, written completely or not at all. In another folder than that of the model,
            external data are copied under a new name, OUTPUT.DIGEST.data, which the result contains. New weights of a
            model with external data are in such a file too, except with `plan`, which then contains them.
        plan: the file of the plan, for `apply` and `undo`.
        force: overwrite existing files, and remove external data that only the overwritten model used.
        external: what becomes of the model's external data if `output` is in another folder: "copy", or "keep": the
            result reads them where they are, which must be below the folder of the output.
        folder: the folder that contains the external data; the folder of the file by default.
        fp16: convert everything outside INT8 to FP16 as the last step, as `to_fp16`.
        keep_io: with `fp16`, graph inputs and outputs keep their types.
        magnitudes: with `fp16`, as `to_fp16`; measured if None and `numerics` is set.
        numerics: compare the outputs with the original model in ONNX Runtime (extra "ort") before writing.
        data: samples of the inputs: a file of arrays, a folder of them or of pictures, a list of samples, or a function
            that yields them (see `calibration.data.sources.Data`). Scales are then measured (see `calibrate`), and
            `numerics` and the ranges of `fp16` use them; by default these use seeded noise.
        preprocess: for a folder of pictures: how they become inputs, as `--preprocess`.
        samples: how many of the data to use, the first ones; all by default.
        calibrate: with `data`, how scales are chosen: "max", "percentile", "mse", "entropy"; by default "auto", the
            least error at the layers that read a tensor; "none" keeps the scales of the file.
        percentile: with `data`, for the method "percentile", in percent.
        memory: with `data`, the limit for the memory of the process while it measures, in bytes or as "2GiB".
        statistics: with `data`, a file for what was measured; a later call with the same network and data reads it.
        reference: with `data`, the float network, for the exact weights.
        ranges: a file with scales: a TensorRT calibration cache, AIMET encodings, ONNX Runtime's calibration table, or
            statistics that an earlier call kept. With `data` as well, the data give the scales that it lacks.
        provider: the device for `numerics` and for measuring, "cpu" or "cuda".
        verify: build the model before and after the repair with TensorRT-RTX (extra "tensorrt") before writing; the
            model must be a file.
        allow_worse: with `verify`, write the result even if its engine is worse than that of the original.
        globs: the globs of `only` and `skip` that must match a node or tensor; all by default. A settings file for
            several models may contain globs without a match in this model.
        provenance: the written model tells in its metadata (`qdqgraph.provenance`, JSON) which version, rules and
            options made it, and from which input; the plan undoes that too. The model of the result has the entry only
            if `output` or `plan` is given.
        progress: called with one line before each step.
        settings: fields of `Options` by name.

    Raises:
        ModelError: the model is not quantized, or cannot be read, imported or written; or a glob matches nothing, or
            the target does not support FP16 in the file.
        RuleError: `rules` contains an object that is not a rule, a selector matches no rule, a rule crashed, or the
            policy is unknown.
        ArgumentError: there is no option of this name.
        RepairError: TensorRT would refuse the graph and no rule repairs that (the message lists the nodes); or a
            repair declared bit-exact is not; or, with `verify`, the engine became worse: fewer convolutions read INT8,
            or more bytes, or more in floating point, are stored, and read and written, between convolution blocks.
        EngineError: TensorRT-RTX is missing, or refuses the repaired model.
        CalibrationError: the statistics are of another network or other samples, or a value for them is unusable.
    """
    size = given.byte_count(memory)
    calibration = Calibration(calibrate, percentile, size, given.path(statistics), reference, given.path(ranges))
    return Steps(
        given.rule_list(rules, select, ignore),
        given.option_values(options, settings, rules),
        output=output,
        plan=plan,
        force=force,
        external=external,
        folder=folder,
        fp16=fp16,
        keep_io=keep_io,
        magnitudes=magnitudes,
        numerics=numerics,
        data=data,
        preprocess=preprocess,
        samples=samples,
        calibration=calibration,
        provider=provider,
        verify=verify,
        allow_worse=allow_worse,
        globs=globs,
        provenance=provenance,
        progress=progress,
    ).run(model, rounds.fix)


@public()
def to_fp16(
    model: Model,
    *,
    output: File | None = None,
    force: bool = False,
    external: External = "copy",
    folder: File | None = None,
    note: Progress = log_step,
    keep_io: bool = False,
    magnitudes: Mapping[str, float] | None = None,
    data: Data | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    skip: Sequence[str] = (),
    provenance: bool = True,
) -> Fp16Model:
    """Converts everything outside INT8 to FP16, for strongly typed TensorRT.

    Args:
        model: a model, which is not modified, or its path.
        output, force, external, folder: as `fix`.
        note: called with what a user should know of the written file.
        keep_io: graph inputs and outputs keep their types, with one Cast each.
        magnitudes: the largest magnitude of each tensor, by name; nodes with a tensor beyond FP16's range stay FP32.
        data: inputs to measure `magnitudes` on if they are None, with ONNX Runtime (extra "ort"); as `fix`.
        preprocess, samples: as `fix`.
        skip: globs on the names of nodes and of their outputs; those nodes stay FP32.
        provenance: as `fix`.

    Raises:
        ModelError: as `fix`; or external data are missing, the data do not fit the model, or a node cannot be
            converted to the opset of FP16 Q/DQ.
    """

    def run() -> Fp16Model:
        found, place, file = given.read(model, folder)
        if output is not None:
            refuse_collisions(found, place, file, [Path(output)])
        feeds = given.samples(data, found, preprocess, samples)
        ranges = magnitudes
        if ranges is None and feeds is not None:
            ranges = measured_ranges(found, feeds, place)
        with spilling(found, place, output):
            made = fp16_around_int8(found, place, keep_io=keep_io, ranges=ranges, skip=skip)
            refuse_unsound(found, made.model)
            if output is None:
                return made
            source = Source(file, place, found, external=external)
            if provenance and (base := digest(found)) != digest(made.model):
                seen = "" if feeds is None or magnitudes is not None else feeds.digest
                numbers = "" if magnitudes is None else digest_of(magnitudes)
                asked = {"keep_io": keep_io, "magnitudes": numbers, "data": seen, "skip": [*skip]}
                told = Run("to_fp16", {name: value for name, value in asked.items() if value})
                made = replace(made, model=with_metadata(made.model, PROVENANCE, entry(found, base, told)))
            new = placed(made.model, Path(output), source, force=force)
            for sentence in write_model(new, Path(output), source, force=force):
                note(sentence)
            return replace(made, model=new.model)

    refuse_outputs(model, output, None, force)
    return lightly(run, model, output)
