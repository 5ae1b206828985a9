"""`Steps`: what a repair of a file is checked with, and what follows it: FP16, numeric check, engines, files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx

from .. import __version__
from ..calibration.data.samples import Samples
from ..calibration.data.sources import Data
from ..calibration.ranges import measured_ranges
from ..calibration.statistics.scales import AUTO
from ..calibration.trial import run_on_noise
from ..engines.forecast.forecast import fused
from ..engines.forecast.judge import Judge
from ..engines.share import Int8Share
from ..errors import ModelError, RepairError
from ..fp16 import Fp16Model, refuse_target, with_fp16
from ..graph.graph import Graph
from ..model import runtime
from ..model.corrected import unmatched
from ..model.mapped import memory_note
from ..model.runtime import Feeds
from ..model.writing.models import External, Source
from ..model.writing.outputs import refuse_collisions
from ..model.writing.spill import spilling
from ..repair import rounds
from ..repair.mark import is_result, marked
from ..repair.measured import Measured
from ..repair.options import Options
from ..repair.provenance import Run
from ..repair.repair import Repair
from ..repair.work import Measure
from ..report.results import Result
from ..rulekit.rule import Rule
from ..targets.target import Target
from ..verify.verification import verify as compared_outputs
from . import given
from .attempt import Attempt, Repairs
from .correcting import correcting
from .dependence import content_of, depends_on, digest_of
from .equalizing import Equalizing, Make, equalized, refuse_options
from .given import File, Model, Progress, log_step
from .lightly import lightly
from .limits import limits as output_limits
from .measuring import NONE, Calibration, measuring, table_notes
from .results import output_paths, refuse_outputs, refuse_unknown, written

SAME = "the model is the result of the same run, with the same data and options: nothing changes"


@dataclass(frozen=True)
class Steps:
    """The arguments that `fix` and `quantize` share, with the meaning that `fix` describes.

    Raises:
        ModelError: two arguments contradict each other, or an output file cannot be written.
    """

    rules: Sequence[Rule]
    options: Options
    output: File | None = None
    plan: File | None = None
    force: bool = False
    external: External = "copy"
    folder: File | None = None
    fp16: bool = False
    keep_io: bool = False
    magnitudes: Mapping[str, float] | None = None
    numerics: bool = False
    data: Data | None = None
    preprocess: str | None = None
    samples: int | None = None
    calibration: Calibration = field(default_factory=Calibration)
    provider: str = "cpu"
    verify: bool = False
    allow_worse: bool = False
    globs: Sequence[str] | None = None
    provenance: bool = True
    progress: Progress = log_step

    def __post_init__(self) -> None:
        if self.keep_io and not self.fp16:
            raise ModelError("keep_io has an effect only with fp16: set both")
        if self.allow_worse and not self.verify:
            raise ModelError("allow_worse has an effect only with verify: set both")
        if self.options.exact and self.fp16:
            raise ModelError("fp16 rounds values, so it is not exact: set only one of them")
        if self.options.weights == "float" and self.fp16:
            raise ModelError("fp16 stores quantized weights as integers, which weights='float' excludes: set only one")
        if self.options.keep_scales and self.data is None and self.calibration.table is None:
            raise ModelError("keep_scales has an effect only with data or ranges: give one of them")
        if self.data is None:
            self.calibration.refuse_idle()
        if self.fp16:
            refuse_target(Target.named(self.options.target))

    def run(self, model: Model, repairs: Repairs) -> Result:
        """Repairs a model, checks the result, and writes the files; raises as `fix`."""
        return lightly(partial(self._run, model, repairs), model, self.output)

    def _run(self, model: Model, repairs: Repairs) -> Result:
        refuse_outputs(model, self.output, self.plan, self.force)
        found, place, source = given.read(model, self.folder)
        if self.verify and isinstance(model, onnx.ModelProto):
            raise ModelError("engines are built from files: give the path of the model")
        if self.verify:
            from ..engines.builders.builder import require  # only here: most repairs build no engine
            from ..engines.builders.prove import LIBRARY

            require(LIBRARY)
        kept = self.calibration.statistics
        refuse_collisions(found, place, source, output_paths(self.output, self.plan, kept))
        refuse_unknown(found, (*self.options.only, *self.options.skip) if self.globs is None else self.globs)
        feeds = given.samples(self.data, found, self.preprocess, self.samples)
        if self.numerics and runtime.available():
            runtime.provider(self.provider)
        if self.options.equalize:
            refuse_options(self.options, self.calibration, feeds is not None)
        with spilling(found, place, self.output, plan=self.plan is not None):
            return self._written(model, repairs, Source(source, place, found, external=self.external), feeds)

    def _written(self, model: Model, repairs: Repairs, given_as: Source, feeds: Samples | None) -> Result:
        """Repairs a model that has been read, checks the result, and writes the files; raises as `fix`."""
        found, place = given_as.original, given_as.folder
        make = partial(self._attempt, model, repairs, place, feeds)
        attempt = make(self.calibration)
        run = None
        if feeds is not None and (attempt.measure is not None or attempt.corrections is not None):
            run = cache(partial(self._identity, feeds))
        if run is not None and is_result(found, place, run):
            judge = attempt.judge
            repair = rounds.unchanged(found, self.rules, self.options, folder=place, judge=judge)
            result = self._checked(given_as, feeds, repair, None, judge.shares, (SAME,))
        else:
            done = self._equalizing(found, repairs, make, attempt, feeds)
            limits = self._limits(done.repair, place, feeds)
            repair, half, note = self._converted(found, place, feeds, done)
            repair = marked(repair, found, place, run) if run is not None and repair.plan.edits else repair
            shares = attempt.judge.shares[:1] + done.attempt.judge.shares[-1:]
            result = self._checked(given_as, feeds, repair, half, shares, (note, done.note, *limits))
        told = None
        if self.provenance and (self.output is not None or self.plan is not None):
            used = feeds if run is not None or self._measures_ranges else None
            options = self._depends_on("" if used is None else used.digest)
            told = Run("quantize" if repairs is rounds.quantize else "fix", options)
        return written(result, given_as, self.output, self.plan, self.force, self.progress, told, repair.accepted)

    @property
    def _measures_ranges(self) -> bool:
        """Whether the conversion to FP16 depends on ranges that the numeric check measures."""
        return self.fp16 and self.magnitudes is None and self.numerics

    def _depends_on(self, data: str) -> Mapping[str, Any]:
        """What the result depends on beside the model; `data` is the digest of the samples, "" if it does not depend on
        them."""
        own, table = self.calibration, self.calibration.table
        return depends_on(
            self.options,
            self.rules,
            fp16=self.fp16,
            keep_io=self.keep_io,
            magnitudes=self.fp16 and self.magnitudes is not None and digest_of(self.magnitudes),
            numerics=self._measures_ranges,
            data=data,
            provider=data and self.provider != "cpu" and self.provider,
            calibrate=data and own.method != AUTO and own.method,
            percentile=own.method == "percentile" and own.percentile,
            memory=data and self.options.round_weights and own.memory,  # layers beyond it keep their integers
            reference=content_of(own.reference),
            ranges=table and table.is_file() and digest_of(table),
        )

    def _attempt(
        self,
        model: Model,
        repairs: Repairs,
        place: Path,
        feeds: Samples | None,
        calibration: Calibration,
    ) -> Attempt:
        """What repairs a model with a calibration."""
        own = calibration
        if repairs is rounds.quantize:  # the float model has the weights before rounding
            own = replace(own, reference=model if own.reference is None else own.reference)
            calibration = replace(calibration, reference=None)
        corrections = correcting(self.options, feeds, own, self.provider, self.progress)
        measure = None
        if not self.options.exact:
            measure = measuring(calibration, feeds, self.provider, self.progress)
        measure = _once(measure) if self.fp16 and measure is not None else measure
        judge = Judge(self.options.sizes)
        return Attempt(self.rules, self.options, place, self.progress, measure, corrections, judge)

    def _equalizing(
        self, found: onnx.ModelProto, repairs: Repairs, make: Make, attempt: Attempt, feeds: Samples | None
    ) -> Equalizing:
        if not self.options.equalize or feeds is None:
            return Equalizing(attempt.repair(found, repairs), attempt, False, "")
        return equalized(found, repairs, make, attempt, feeds, self.calibration, self.provider)

    def _limits(self, repair: Repair, place: Path, feeds: Samples | None) -> tuple[str, ...]:
        """What the outputs lose that other options could win back, if scales were measured and outputs are compared."""
        if feeds is None or repair.legal is None or not self.numerics or not runtime.available():
            return ()
        self.progress("comparing outputs with the float network")
        return output_limits(repair, place, feeds, self.calibration, self.provider)

    def _identity(self, feeds: Samples) -> str:
        """What the result depends on, as text; the FP16 twin of a network reads rounded samples."""
        known = self._depends_on(feeds.rounded_digest if self.fp16 else feeds.digest)
        return json.dumps([__version__, known], sort_keys=True)

    def _converted(
        self,
        found: onnx.ModelProto,
        place: Path,
        feeds: Samples | None,
        done: Equalizing,
    ) -> tuple[Repair, Fp16Model | None, str]:
        """The repair with the conversion to FP16 as its last step, if it is asked for; and a note about it."""
        repair = done.repair
        if not self.fp16:
            return repair, None, ""
        note, ranges = "", self.magnitudes
        if ranges is None and self.numerics and runtime.available():
            self.progress("measuring ranges in ONNX Runtime")
            models = (repair.model,) if done.kept else (repair.start, repair.exact, repair.model)
            ranges, note = _ranges(models, feeds, place, self.calibration.memory)
        self.progress("converting to FP16")
        half = with_fp16(
            found,
            repair,
            place,
            repair=done.attempt.repair,
            plain=done.attempt.unmeasured.repair,
            keep_io=self.keep_io,
            ranges=ranges,
            skip=self.options.skip,
        )
        return *half, note

    def _checked(
        self,
        given_as: Source,
        feeds: Samples | None,
        repair: Repair,
        half: Fp16Model | None,
        shares: tuple[Int8Share, ...],
        notes: tuple[str, ...],
    ) -> Result:
        """The repair of a model, with the numeric check and the engines."""
        found, place = given_as.original, given_as.folder
        (before, after), target = (shares[0], shares[-1]), Target.named(self.options.target)
        numbers = proof = None
        if half is not None:
            after = Int8Share.of(fused(Graph(repair.model, place, target=target).sized(self.options.sizes), ""))
        if self.numerics:
            self.progress(f"comparing outputs in ONNX Runtime{memory_note(found)}")
            numbers = compared_outputs(found, repair, place, data=feeds, provider=self.provider, rules=self.rules)
        if self.verify:
            from ..engines.builders.prove import prove  # only here: most repairs build no engine

            self.progress("building original and result with TensorRT-RTX")
            proof = prove(given_as, repair.model, target, self.options.sizes)
            if proof.worse and not self.allow_worse:
                built = "TensorRT-RTX builds a worse engine from the repaired model"
                raise RepairError(f"{built}: {proof.worse}; the result was not written: use --allow-worse to write it")
        gone = unmatched(found, place)
        measured = feeds is not None and not self.options.exact and self.calibration.method != NONE
        device = runtime.provider(self.provider, "the calibration")[1] if measured and runtime.available() else ""
        warnings = (
            *notes,
            gone,
            device,
            "" if numbers is None else numbers.warning,
            *table_notes(self.calibration, found),
        )
        said = tuple(sentence for sentence in warnings if sentence)
        return Result.of(repair, numbers=numbers, fp16=half, engines=proof, int8=(before, after), notes=said)


def _once(measure: Measure) -> Measure:
    """Measures the first graph, and takes this for the later ones: the same network, rounded to FP16."""
    found: list[Measured] = []

    def run(graph: Graph) -> Measured:
        found.extend([] if found else [measure(graph)])
        return found[0]

    return run


def _ranges(
    models: Sequence[onnx.ModelProto], feeds: Feeds | None, folder: Path, memory: int
) -> tuple[Mapping[str, float] | None, str]:
    """Returns the range of each tensor, in the first of the models that onnxruntime runs; a note if it runs none."""
    reason = ""
    for model in models:
        try:
            given_or_noise = run_on_noise(model, folder).feeds if feeds is None else feeds
            return measured_ranges(model, given_or_noise, folder, memory), ""
        except ModelError as error:
            reason = reason or str(error)
    return None, f"no ranges were measured, so nothing stays FP32 because of an overflow of FP16: {reason}"
