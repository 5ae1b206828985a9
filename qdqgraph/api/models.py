"""Calls on a model: check, fix, strip, to_fp16."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import onnx

from ..calibration import inputs
from ..calibration.ranges import measured_ranges
from ..engines.builders.prove import Proof, prove
from ..engines.forecast.cost import priced
from ..engines.forecast.forecast import forecast
from ..errors import ModelError
from ..fp16 import Fp16Model, refuse_target, with_fp16
from ..fp16 import to_fp16 as fp16_around_int8
from ..graph.graph import Graph
from ..model import runtime
from ..model.files import external_files, is_canonical, refuse_to_overwrite, write_model, write_text
from ..model.protos import names as tensor_names
from ..repair import rounds
from ..repair.options import Options
from ..repair.rounds import Repair
from ..rulekit.finding import Finding
from ..rulekit.rule import Rule
from ..targets.target import Target
from ..verify.verification import Verification, verify
from . import given
from .given import File, Model, Progress, Samples


@dataclass(frozen=True)
class Result(Repair):
    """What `fix` did.

    Attributes:
        numbers: how the outputs agree with the original's; None where that was not asked for.
        fp16: what became FP16; None without `fp16`.
        engines: the engines before and after; None without `engines`.
        notes: what a user should know, a sentence each.
    """

    numbers: Verification | None = None
    fp16: Fp16Model | None = None
    engines: Proof | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, repair: Repair, **more: Any) -> Result:
        """A repair with what followed it."""
        return cls(**{f.name: getattr(repair, f.name) for f in fields(Repair)}, **more)


def check(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    folder: File | None = None,
    other_targets: bool = False,
    **settings: Any,
) -> tuple[Finding, ...]:
    """What keeps TensorRT from building or fusing a model, with what each finding costs in bytes by forecast.

    Args:
        model: a model, or the path of one.
        rules: the rules to check by; the built-in and installed ones by default.
        options: what a repair may do; or say it by name, such as `target="trt-11"`.
        folder: where external data lie; the folder of the file by default.
        other_targets: report as well what the model would meet on other targets alone; such a finding names its
            `target`.

    Raises:
        ModelError: nothing in the model is quantized, or it cannot be read or imported; or an option has no such name.
        RuleError: `rules` holds something that is not a rule, a rule crashed, or the policy is unknown.
    """
    found, place, source = given.read(model, folder)
    chosen, asked = given.rule_list(rules), given.option_values(options, settings)
    graph = rounds.quantized(Graph(found, place, target=Target.named(asked.target)), chosen)
    here = priced(rounds.examine(graph, chosen, asked), forecast(graph, source.name))
    return (*here, *rounds.elsewhere(graph, chosen, here)) if other_targets else here


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
    data: Samples | None = None,
    provider: str = "cpu",
    engines: bool = False,
    globs: Sequence[str] | None = None,
    progress: Progress = lambda message: None,
    **settings: Any,
) -> Result:
    """Repairs a model: all that `qdqgraph fix` does, but for printing.

    The findings that remain tell what they cost in bytes by forecast, as those of `check` do.

    Args:
        model: a model, which is left as it is, or the path of one.
        rules: the rules to repair by; the built-in and installed ones by default.
        options: what the repair may do; or say it by name, such as `max_bits_lost=1.5` or `target="trt-11"`.
        output: where to write the result, whole or not at all.
        plan: where to write the plan, for `apply` and `undo`.
        force: whether existing files are replaced.
        folder: where external data lie; the folder of the file by default.
        fp16, keep_io, ranges: make everything that is not INT8 FP16 at the end, as `to_fp16` does. Without `ranges`
            they are measured where `numerics` are asked for.
        numerics: compare the outputs with the original's in ONNX Runtime (extra "ort"), before anything is written.
        data: the inputs for that; seeded noise by default.
        provider: where that runs, "cpu" or "cuda".
        engines: build the model before and after on TensorRT-RTX (extra "tensorrt"), before anything is written; the
            model must be a file.
        globs: those of `only` and `skip` that must name a node or tensor; all by default. A settings file for many
            models holds some that name nothing here.
        progress: called with one line before each step.

    Raises:
        ModelError: nothing in the model is quantized, or it cannot be read, imported or written; or an option has no
            such name, a glob names nothing, or the target takes no FP16 from the file.
        RuleError: `rules` holds something that is not a rule, a rule crashed, or the policy is unknown.
        RepairError: TensorRT would refuse the graph and no rule repairs that, node by node; or a repair that promises
            to be bit-exact is not.
        EngineError: TensorRT-RTX is missing, or refuses the repaired model.
    """
    asked = given.option_values(options, settings)
    if keep_io and not fp16:
        raise ModelError("keep_io says what fp16 does to inputs and outputs: give both")
    if asked.exact and fp16:
        raise ModelError("fp16 rounds numbers, so it is not exact: give one of them")
    _refuse_outputs(output, plan, force)
    if fp16:
        refuse_target(Target.named(asked.target))
    found, place, source = given.read(model, folder)
    if engines and isinstance(model, onnx.ModelProto):
        raise ModelError("engines are built from files: give the path of the model")
    external_files(found, place)
    _refuse_unknown(found, (*asked.only, *asked.skip) if globs is None else globs)
    feeds = given.samples(data, found)
    repair = rounds.fix(found, given.rule_list(rules), asked, folder=place, progress=progress)
    if repair.left:
        engine = forecast(Graph(repair.model, place, target=Target.named(asked.target)), source.name)
        repair = replace(repair, left=priced(repair.left, engine))
    half = numbers = proof = None
    if fp16:
        if ranges is None and numerics and runtime.available():
            progress("measuring ranges in ONNX Runtime")
            ranges = measured_ranges(found, inputs.noise(found) if feeds is None else feeds, place)
        progress("FP16 around INT8")
        repair, half = with_fp16(found, repair, place, keep_io=keep_io, ranges=ranges, skip=asked.skip)
    if numerics:
        progress("comparing outputs in ONNX Runtime")
        numbers = verify(found, repair, place, data=feeds, provider=provider)
    if engines:
        progress("building before and after on TensorRT-RTX")
        proof = prove(source, found, repair.model, Target.named(asked.target))
    result = Result.of(repair, numbers=numbers, fp16=half, engines=proof)
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
    """Takes the pairs off the inputs of chosen layers, so that they run in floating point: what `qdqgraph strip` does.

    Args:
        nodes: globs on the names of nodes, and of the tensors they produce.
        rules: layers that these rules report are chosen, too.
        output, plan, force, folder: as `fix`.

    Raises:
        ModelError: as `fix`; or a glob names no node, or nothing that is chosen is quantized.
    """
    if isinstance(nodes, str):
        raise ModelError(f"nodes is a string; write a tuple of them: ({nodes!r},)")
    _refuse_outputs(output, plan, force)
    found, place, source = given.read(model, folder)
    result = Result.of(rounds.strip(found, nodes, given.rule_list(rules), folder=place))
    return _written(result, found, source, output, plan, force)


def to_fp16(
    model: Model,
    folder: File | None = None,
    *,
    output: File | None = None,
    keep_io: bool = False,
    ranges: Mapping[str, float] | None = None,
    skip: Sequence[str] = (),
) -> Fp16Model:
    """Makes everything that is not INT8 FP16, for a strongly typed TensorRT.

    Args:
        output, folder: as `fix`.
        keep_io: inputs and outputs keep their types, a Cast each.
        ranges: largest magnitude seen in each tensor, by name; nodes that go beyond FP16's range stay FP32.
        skip: globs on the names of nodes and of the tensors they produce; those nodes stay FP32.

    Raises:
        ModelError: as `fix`; or external data are missing, or a node has no form in the operator set of FP16 Q/DQ.
    """
    found, place, source = given.read(model, folder)
    made = fp16_around_int8(found, place, keep_io=keep_io, ranges=ranges, skip=skip)
    if output is not None:
        write_model(made.model, Path(output), source, force=True)
    return made


def _refuse_outputs(output: File | None, plan: File | None, force: bool) -> None:
    """Refuses outputs that could not be written at the end, or only over something.

    Raises:
        ModelError: as `refuse_to_overwrite`; or both name one file.
    """
    if output is not None and plan is not None and Path(output).resolve() == Path(plan).resolve():
        raise ModelError(f"{plan} is named for the model and for its plan: name another file")
    for path in (output, plan):
        if path is not None:
            refuse_to_overwrite(Path(path), force=force)


def _refuse_unknown(model: onnx.ModelProto, globs: Sequence[str]) -> None:
    """Refuses globs that name nothing: a slip there repairs too little or too much.

    Raises:
        ModelError: a glob matches no node and no tensor.
    """
    names = {*(node.name for node in model.graph.node), *tensor_names(model.graph)}
    for glob in globs:
        if not fnmatch.filter(names, glob):
            raise ModelError(f"no node or tensor is named {glob!r}")


def _written(
    result: Result,
    model: onnx.ModelProto,
    source: Path,
    output: File | None,
    plan: File | None,
    force: bool,
    progress: Progress = lambda message: None,
) -> Result:
    """The result, with its files written and what a user should know of them."""
    notes: list[str] = []
    if output is not None:
        progress("checking and writing")
        notes.append(write_model(result.model, Path(output), source, force=force))
    if plan is not None:
        write_text(result.plan.to_json(), Path(plan), force=force)
        if source.is_file() and not is_canonical(source, model):
            kept = "undo restores the same model, not the same bytes"
            notes.append(f"{source} is not written as protobuf writes it; {kept}")
    return replace(result, notes=(*result.notes, *filter(None, notes)))
