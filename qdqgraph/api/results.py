"""The files that a call writes which changes a model."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from ..errors import ModelError, guess
from ..model.files import is_canonical
from ..model.protos import names as tensor_names
from ..model.writing.models import Source, placed, write_model
from ..model.writing.outputs import refuse_to_overwrite
from ..model.writing.texts import write_blocks
from ..model.writing.users import same_file
from ..repair.plan import Plan
from ..repair.provenance import Run, recorded
from ..report.results import Result
from .given import File, Model, Progress, log_step
from .soundness import refuse_unsound


def refuse_outputs(model: Model, output: File | None, plan: File | None, force: bool) -> None:
    """Rejects output files that cannot be written, before the work starts.

    Raises:
        ModelError: as `refuse_to_overwrite`; both are the same file; or the original would be lost: the output replaces
            the file that is read, and there is no plan to undo.
    """
    paths = output_paths(output, plan)
    given = None if isinstance(model, onnx.ModelProto) else Path(model)
    if output is not None and plan is None and given is not None and same_file(Path(output), given):
        raise ModelError(
            f"{output} is the model that is read, and its original would be lost: name another file, or also save the "
            "plan (--plan FILE, plan=FILE), from which undo restores it"
        )
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
    if not globs:
        return
    found = (*(node.name for node in model.graph.node), *tensor_names(model.graph))
    names = {name for name in found if isinstance(name, str)}  # bytes that are no UTF-8 are refused later
    for glob in globs:
        if not fnmatch.filter(names, glob):
            raise ModelError(f"no node or tensor matches {glob!r}{guess(glob, sorted(filter(None, names)))}")


def written(
    result: Result,
    source: Source,
    output: File | None,
    plan: File | None,
    force: bool,
    progress: Progress = log_step,
    run: Run | None = None,
    accepted: onnx.ModelProto | None = None,
) -> Result:
    """Writes the files of a result, and returns the result as it was written, with notes about the files.

    If the run is given and a file is written, the model and its plan contain the run in their provenance. What is
    `accepted` onnx is not asked about again, see `refuse_unsound`.

    Raises:
        RepairError: as `refuse_unsound`.
        ModelError: a file cannot be written.
    """
    refuse_unsound(source.original, result.model, accepted)
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
        saved = None if plan is None else (Path(plan), result.plan.blocks())
        notes += write_model(new, Path(output), source, force=force, plan=saved)
    elif plan is not None:
        write_blocks(result.plan.blocks(), Path(plan), force=force)
    out = None if output is None else str(output)
    return replace(result, file=str(source.path), written=out, notes=(*result.notes, *notes))
