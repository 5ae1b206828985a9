"""Original scales: the scales of sites before any repair, recorded in the model's metadata.

The guard always compares with them, so a second run does not accept a change that the first refused.
"""

from __future__ import annotations

import math

from ..errors import ModelError
from ..graph.graph import Graph

ORIGINAL = "qdqgraph.scale."
"""Prefix of the metadata_props keys with the original scale of a changed site."""


def originals(graph: Graph) -> dict[str, float]:
    """Returns the original scales of the sites that an earlier repair changed, by site.

    Raises:
        ModelError: a metadata entry is not a positive finite number.
    """
    kept: dict[str, float] = {}
    for entry in graph.model.metadata_props:
        if entry.key.startswith(ORIGINAL):
            try:
                scale = float(entry.value)
            except ValueError:
                scale = math.nan
            if not 0 < scale < math.inf:
                raise ModelError(f"metadata {entry.key!r} is {entry.value!r}, which is not a scale: remove the entry")
            kept[entry.key[len(ORIGINAL) :]] = scale
    return kept
