"""The function that removes the pairs of chosen layers: strip."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import onnx

from ..errors import ModelError
from ..model.content import content
from ..model.writing.models import External, Source
from ..model.writing.outputs import refuse_collisions
from ..model.writing.spill import spilling
from ..repair import rounds
from ..repair.provenance import Run
from ..report.results import Result
from ..rulekit.rule import Rule
from ..verify.sensitivity.ranking import Sensitivity
from ..verify.sensitivity.worst import layers_of, worst_layers
from . import given
from .call import public
from .given import File, Model
from .lightly import lightly
from .results import output_paths, refuse_outputs, written


@public()
def strip(
    model: Model,
    nodes: Sequence[str] = (),
    rules: Sequence[Rule] | None = None,
    *,
    select: Sequence[str] = (),
    ranking: Sensitivity | File | None = None,
    top: int | None = None,
    min_gain: float | None = None,
    output: File | None = None,
    plan: File | None = None,
    force: bool = False,
    external: External = "copy",
    folder: File | None = None,
    provenance: bool = True,
) -> Result:
    """Removes the pairs at the inputs of chosen layers, so that these run in floating point, as `qdqgraph strip` does.

    Args:
        model: a model, which is not modified, or its path.
        nodes: globs on the names of nodes and of their outputs, and of outputs of the graph that a pair produces.
        rules: the rules that `select` chooses from; the built-in and installed rules by default.
        select: layers that these rules report are chosen as well: codes, prefixes of codes, names or globs.
        ranking: what `sensitivity` returned for this model, or its file, or the file of `error --json`: the layers that
            it lists first are chosen as well.
        top: with `ranking`, at most so many units or layers.
        min_gain: with `ranking`, only units that gain at least this in float, in dB or in the score of the ranking.
        output: as `fix`.
        plan: as `fix`.
        force: as `fix`.
        external: as `fix`.
        folder: as `fix`.
        provenance: as `fix`.

    Raises:
        ModelError: as `fix`; or a glob matches no node, or no chosen layer is quantized, or none of
            their pairs can be removed; the ranking is of another
            model, not complete, or without a unit that gains as much; or `top` and `min_gain` are given without it, or
            it is given without one of them.
    """
    if isinstance(nodes, str):
        raise ModelError(f"nodes is a string; use a tuple of strings: ({nodes!r},)")
    if (ranking is None) != (top is None and min_gain is None):
        raise ModelError("give a ranking (--from FILE) together with --top K, --min-gain GAIN, or both")

    def run() -> Result:
        found, place, source = given.read(model, folder)
        refuse_collisions(found, place, source, output_paths(output, plan))
        worst = () if ranking is None else _layers(found, place, ranking, top, min_gain)
        asked = given.rule_list(rules, select) if select else ()
        chosen = {"nodes": [*nodes, *worst], "selected": sorted(rule.code for rule in asked)}
        told = Run("strip", {name: value for name, value in chosen.items() if value}) if provenance else None
        with spilling(found, place, output, plan=plan is not None):
            result = Result.of(rounds.strip(found, (*nodes, *worst), asked, folder=place))
            return written(result, Source(source, place, found, external=external), output, plan, force, run=told)

    refuse_outputs(model, output, plan, force)
    return lightly(run, model, output)


def _layers(
    model: onnx.ModelProto, folder: Path, ranking: Sensitivity | File, top: int | None, least: float | None
) -> tuple[str, ...]:
    """Globs for the layers that a ranking lists first."""
    own = content(model, folder)
    if isinstance(ranking, Sensitivity):
        found = layers_of(ranking, "the ranking", own, top, least)
    else:
        found = worst_layers(Path(ranking), own, top, least)
    return tuple(map(glob.escape, found))
