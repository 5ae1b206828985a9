"""Provenance: how a written model was made, as one metadata entry that every later reader of the file finds.

The entry is a JSON list with an object for each run that changed the model, the oldest first. It contains neither times
nor paths, so that equal models and options give equal files. The plan contains it: undo restores the file without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import onnx

from .. import __version__
from .options import Options
from .repair import R, with_entry

PROVENANCE = "qdqgraph.provenance"
"""The metadata_props key of the provenance of a model."""


@dataclass(frozen=True)
class Run:
    """One run, as its caller sees it.

    Attributes:
        call: the command, such as "fix".
        options: what differs from the defaults, by name: values that JSON has. Files are named by their sha256.
    """

    call: str
    options: Mapping[str, Any]


def differing(options: Options) -> Mapping[str, Any]:
    """The options that differ from their defaults, by field name."""
    plain = Options()
    names = (field.name for field in fields(Options))
    return {name: value for name in names if (value := getattr(options, name)) != getattr(plain, name)}


def recorded(repair: R, original: onnx.ModelProto, run: Run) -> R:
    """A repair with the run in the provenance of its model, and in its plan; the same repair if it changes nothing.

    Args:
        repair: the repair.
        original: the model that it repairs.
        run: what was asked for.
    """
    if not repair.plan.edits:
        return repair
    codes = sorted({finding.code for finding in repair.applied})
    return with_entry(repair, original, PROVENANCE, entry(original, repair.plan.base, run, codes))


def entry(original: onnx.ModelProto, base: str, run: Run, codes: Sequence[str] = ()) -> str:
    """The provenance of the result of a run: that of the model before, and an object with `version` (of qdqgraph),
    `call`, `input` (`base`), `rules` (`codes`) and `options`.

    Args:
        original: the model before.
        base: sha256 of the model before, without external data: `base_sha256` of a plan.
        run: what was asked for.
        codes: of the rules whose repairs were applied.
    """
    own = {"version": __version__, "call": run.call, "input": base, "rules": [*codes], "options": run.options}
    return json.dumps([*runs(original), own], sort_keys=True, separators=(",", ":"))


def runs(model: onnx.ModelProto) -> tuple[Mapping[str, Any], ...]:
    """The runs that changed a model, the oldest first; none if it has no entry, or one that is not ours."""
    text = next((entry.value for entry in model.metadata_props if entry.key == PROVENANCE), "[]")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(run, dict) for run in found) else ()
