"""`remove_pair`: what takes a pair out of a graph, so that its readers see real numbers that were not rounded."""

from __future__ import annotations

from ..graph.graph import Graph, key
from ..graph.pair import Pair
from .clipping import clip_nodes, clips_negatives
from .nodes import make_constant, make_node, replace
from .proposal import Proposal, Rewire
from .weights import pair_readers, real_weights


def remove_pair(graph: Graph, pair: Pair) -> tuple[Proposal, ...]:
    """Edits after which nothing reads the pair; none where the file does not hold the real numbers, or the pair is no
    rounding alone because its nodes disagree.

    Readers of the DequantizeLinears read the tensor in front of the QuantizeLinear. A pair that takes negative numbers
    away leaves a Clip to its range. Integer weights become the floats that they stand for. A DequantizeLinear that is a
    graph output is an Identity from then on. A pair that nobody reads goes as it is.
    """
    if pair.quantize is None:
        reals = real_weights(graph, pair) if pair.kind != "activation" else None
        if reals is None:
            return ()
        return tuple(replace([d], [make_constant(key(d), reals)]) for d in pair.dequantizes)
    if not pair.agrees:
        return ()
    edits: list[Proposal] = []
    if not pair_readers(graph, pair) and not graph.outputs & {key(n) for n in pair.nodes}:
        return (replace(pair.nodes, []),)
    for dequantize in pair.dequantizes:
        mine = graph.readers(key(dequantize))
        cutting = clips_negatives(graph, pair)
        if cutting or key(dequantize) in graph.outputs or any(r.index < 0 for r in mine):
            name = key(dequantize)
            stays = clip_nodes(graph, pair, name) if cutting else [make_node("Identity", [pair.tensor], name)]
            if stays is None:
                return ()
            edits.append(replace([dequantize], stays))
        else:
            edits += [Rewire(r.key, pair.tensor) for r in mine]
    return tuple(edits)
