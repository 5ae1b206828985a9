"""PyTorch paths of quantizers in the metadata of a model whose nodes no longer have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ..graph.graph import Graph
from ..graph.selectors import PATHS, quantizers
from .draft import Draft


def record_paths(graph: Graph, paths: Mapping[str, Sequence[str]]) -> Graph:
    """Returns a graph that has these paths: those that no node has are in its metadata.

    Args:
        graph: the graph; it is not modified.
        paths: sites by path.
    """
    known = quantizers(graph) if paths else {}
    lost = {path: sites for path, sites in paths.items() if sites and not set(sites) <= set(known.get(path, ()))}
    if not lost:
        return graph
    draft = Draft(graph.model)
    for path, sites in lost.items():
        draft.set_metadata(PATHS + path, json.dumps(list(dict.fromkeys((*known.get(path, ()), *sites)))))
    return Graph(draft.finish(), graph.folder, known=graph, target=graph.target)
