"""`unpaired`: what takes a pair out of a graph, so that its readers see real numbers that were not rounded."""

from __future__ import annotations

from .edit import Proposal, Rewire
from .graph import Graph, key
from .pair import Pair
from .replacing import constant, operator, replace
from .weights import cuts, weights


def unpaired(graph: Graph, pair: Pair) -> tuple[Proposal, ...]:
    """Edits after which nothing reads the pair; none where the file does not hold the real numbers.

    Readers of the DequantizeLinears read the tensor in front of the QuantizeLinear. A pair that takes negative numbers
    away leaves a Relu. Integer weights become the floats that they stand for. A DequantizeLinear that is a graph output
    is an Identity from then on.
    """
    if pair.quantize is None:
        reals = weights(graph, pair) if pair.kind != "activation" else None
        if reals is None:
            return ()
        return tuple(replace([d], [constant(key(d), reals)]) for d in pair.dequantizes)
    edits: list[Proposal] = []
    for dequantize in pair.dequantizes:
        readers = graph.readers(key(dequantize))
        cut = cuts(graph, pair)
        if cut or key(dequantize) in graph.outputs or any(r.index < 0 for r in readers):
            stays = operator("Relu" if cut else "Identity", [pair.tensor], key(dequantize))
            edits.append(replace([dequantize], [stays]))
        else:
            edits += [Rewire(r.key, pair.tensor) for r in readers]
    return tuple(edits)
