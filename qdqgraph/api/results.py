"""`Result`: what a call that changes a model returns, and the files that it writes."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from ..engines.share import Int8Share
from ..errors import ModelError
from ..fp16 import Fp16Model
from ..model.files import is_canonical
from ..model.protos import names as tensor_names
from ..model.writing.models import Source, placed, write_model
from ..model.writing.outputs import refuse_to_overwrite
from ..model.writing.texts import write_text
from ..model.writing.users import same_file
from ..repair.plan import Plan
from ..repair.provenance import Run, recorded
from ..repair.repair import Repair
from ..verify.verification import Verification
from .given import File, Progress

if TYPE_CHECKING:
    from ..engines.builders.prove import Proof
from .soundness import refuse_unsound


@dataclass(frozen=True)
class Result(Repair):
    """The result of `fix`, `quantize` or `strip`; see `Repair` for the other attributes.

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


def refuse_outputs(output: File | None, plan: File | None, force: bool) -> None:
    """Rejects output files that cannot be written, before the work starts.

    Raises:
        ModelError: as `refuse_to_overwrite`; or both are the same file.
    """
    paths = output_paths(output, plan)
    if len(paths) == 2 and same_file(*paths):
        raise ModelError(f"{plan} is given for both the model and its plan: use two files")
    for path in paths:
        refuse_to_overwrite(path, force=force)


def output_paths(*files: File | None) -> list[Path]:
    """Returns the files that a call writes, the model first."""
    return [Path(file) for file in files if file is not None]


def refuse_unknown(model: onnx.ModelProto, globs: Sequence[str]) -> None:
    """Rejects globs without a match: a typing error there would repair too little or too much.

    Raises:
        ModelError: a glob matches no node and no tensor.
    """
    names = {*(node.name for node in model.graph.node), *tensor_names(model.graph)}
    for glob in globs:
        if not fnmatch.filter(names, glob):
            raise ModelError(f"no node or tensor matches {glob!r}")


def written(
    result: Result,
    source: Source,
    output: File | None,
    plan: File | None,
    force: bool,
    progress: Progress = lambda message: None,
    run: Run | None = None,
) -> Result:
    """Writes the files of a result, and returns the result as it was written, with notes about the files.

    If the run is given and a file is written, the model and its plan contain the run in their provenance.

    Raises:
        RepairError: as `refuse_unsound`.
        ModelError: a file cannot be written.
    """
    refuse_unsound(source.original, result.model)
    if run is not None and (output is not None or plan is not None):
        result = recorded(result, source.original, run)
    notes: list[str] = []
    if plan is not None and source.path.is_file() and not is_canonical(source.path, source.original):
        effect = "undo restores an equal model, but not the same bytes"
        notes.append(f"{source.path} is not protobuf's deterministic serialization; {effect}")
    if output is not None:
        progress("checking and writing")
        new = placed(result.model, Path(output), source, force=force)
        if new.model is not result.model:
            result = replace(result, model=new.model, plan=Plan.between(source.original, new.model))
        text = None if plan is None else (Path(plan), result.plan.to_json())
        notes += write_model(new, Path(output), source, force=force, plan=text)
    elif plan is not None:
        write_text(result.plan.to_json(), Path(plan), force=force)
    return replace(result, notes=(*result.notes, *notes))
