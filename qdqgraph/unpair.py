"""`unpaired`: what takes a pair out of a graph, so that its readers see real numbers that were not rounded."""

from __future__ import annotations

from .clipping import cut, cuts
from .edit import Proposal, Rewire
from .graph import Graph, key
from .pair import Pair
from .replacing import constant, operator, replace
from .weights import readers, weights


def unpaired(graph: Graph, pair: Pair) -> tuple[Proposal, ...]:
    """Edits after which nothing reads the pair; none where the file does not hold the real numbers, or the pair is no
    rounding alone because its nodes disagree.

    Readers of the DequantizeLinears read the tensor in front of the QuantizeLinear. A pair that takes negative numbers
    away leaves a Clip to its range. Integer weights become the floats that they stand for. A DequantizeLinear that is a
    graph output is an Identity from then on. A pair that nobody reads goes as it is.
    """
    if pair.quantize is None:
        reals = weights(graph, pair) if pair.kind != "activation" else None
        if reals is None:
            return ()
        return tuple(replace([d], [constant(key(d), reals)]) for d in pair.dequantizes)
    if not pair.agrees:
        return ()
    edits: list[Proposal] = []
    if not readers(graph, pair) and not graph.outputs & {key(n) for n in pair.nodes}:
        return (replace(pair.nodes, []),)
    for dequantize in pair.dequantizes:
        mine = graph.readers(key(dequantize))
        cutting = cuts(graph, pair)
        if cutting or key(dequantize) in graph.outputs or any(r.index < 0 for r in mine):
            name = key(dequantize)
            stays = cut(graph, pair, name) if cutting else [operator("Identity", [pair.tensor], name)]
            if stays is None:
                return ()
            edits.append(replace([dequantize], stays))
        else:
            edits += [Rewire(r.key, pair.tensor) for r in mine]
    return tuple(edits)
