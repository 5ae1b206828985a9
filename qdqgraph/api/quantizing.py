"""The function that quantizes a float model: quantize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..calibration.data.sources import Data
from ..calibration.methods.percentile import DEFAULT_PERCENTILE
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..calibration.statistics.scales import AUTO
from ..errors import ModelError
from ..model.writing.models import External
from ..repair import rounds
from ..repair.options import Options
from ..report.results import Result
from ..rulekit.rule import Rule
from ..versions import Unpack
from . import given
from .call import public
from .given import File, Memory, Model, Progress, log_step
from .measuring import NONE, Calibration
from .settings import QuantizeOptions
from .steps import Steps


@public(QuantizeOptions)
def quantize(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    data: Data | None = None,
    ranges: File | None = None,
    output: File | None = None,
    plan: File | None = None,
    force: bool = False,
    external: External = "copy",
    folder: File | None = None,
    fp16: bool = False,
    keep_io: bool = False,
    magnitudes: Mapping[str, float] | None = None,
    numerics: bool = False,
    preprocess: str | None = None,
    samples: int | None = None,
    calibrate: str = AUTO,
    percentile: float = DEFAULT_PERCENTILE,
    memory: Memory = DEFAULT_MEMORY,
    statistics: File | None = None,
    provider: str = "cpu",
    verify: bool = False,
    allow_worse: bool = False,
    globs: Sequence[str] | None = None,
    provenance: bool = True,
    progress: Progress = log_step,
    **settings: Unpack[QuantizeOptions],
) -> Result:
    """Quantizes a float model for TensorRT, as `qdqgraph quantize` does.

    Every weighted layer that the target has an INT8 kernel for reads its activations through Q/DQ pairs, and its
    constant weights as INT8 integers with a scale per output channel. The rules then place and tie all other pairs, as
    in `fix`. `floats` of the result names the layers that stay in floating point, with the reason of each: no range, no
    kernel, in a subgraph, or not chosen by the options `only` and `skip`.

    Args:
        model: a float model, which is not modified, or its path.
        rules: as `fix`.
        select, ignore: as `fix`.
        options: as `fix`; `only` and `skip` choose the layers to quantize, by the names of nodes and of their outputs.
        data: samples of the inputs, which the scales are measured on; as `fix`.
        ranges: a file with the scales of tensors: a TensorRT calibration cache, AIMET encodings, ONNX Runtime's
            calibration table, or statistics that an earlier call kept. With `data` as well, the data give the scales
            that it lacks.
        output, plan, force, external, folder, fp16, keep_io, magnitudes: as `fix`.
        numerics: compare the outputs with the float model in ONNX Runtime (extra "ort") before writing.
        preprocess, samples, calibrate, percentile, memory, statistics, provider, verify, allow_worse, globs,
            provenance, progress: as `fix`.
        settings: fields of `Options` by name.

    Raises:
        ModelError: as `fix`; or neither `data` nor `ranges` is given, the model has Q/DQ pairs already, no layer can be
            quantized, or an option has no effect here (`exact`, `keep_scales`).
        RuleError, RepairError, EngineError, CalibrationError: as `fix`.
    """
    asked = given.option_values(options, settings, rules)
    if data is None and ranges is None:
        raise ModelError("quantize needs the ranges of the activations: give data, ranges, or both")
    if calibrate == NONE and ranges is None:
        raise ModelError("calibrate is none, so the data give no scales: choose a method, or give ranges")
    if asked.exact or asked.keep_scales:
        name = "exact" if asked.exact else "keep_scales"
        raise ModelError(f"{name} has no effect on a float model, which has no scales yet: leave it out")
    size = given.byte_count(memory)
    calibration = Calibration(calibrate, percentile, size, given.path(statistics), None, given.path(ranges))
    return Steps(
        given.rule_list(rules, select, ignore),
        asked,
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
    ).run(model, rounds.quantize)
