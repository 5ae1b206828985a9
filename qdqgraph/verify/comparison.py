"""Compares the outputs of two models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx

from ..calibration.agreement import Agreement, Comparison
from ..model.runtime import PROVIDERS, Feeds, Session


def compare(
    reference: onnx.ModelProto,
    model: onnx.ModelProto,
    feeds: Feeds,
    folder: Path,
    provider: str = PROVIDERS["cpu"],
) -> dict[str, Agreement]:
    """Returns the agreement of `model` with `reference`, by output name.

    Args:
        reference: the reference model.
        model: the model to compare, with the same inputs and outputs.
        feeds: one mapping per sample, from input name to array.
        folder: the folder that contains the external data.
        provider: the execution provider of ONNX Runtime.

    Raises:
        ModelError: ONNX Runtime cannot run one of the models.
    """
    ours, theirs = (Session(m, folder, provider).each(feeds) for m in (reference, model))
    return compared([o.name for o in reference.graph.output], ours, theirs)


def compared(
    names: Sequence[str], ours: Iterable[Sequence[Any]], theirs: Iterable[Sequence[Any]]
) -> dict[str, Agreement]:
    """Returns the agreement of each output, by name, from the outputs of each sample."""
    comparisons = [Comparison() for _ in names]
    for a, b in zip(ours, theirs, strict=True):
        for comparison, x, y in zip(comparisons, a, b, strict=True):
            comparison.add(x, y)
    return {name: comparison.agreement() for name, comparison in zip(names, comparisons, strict=True)}
