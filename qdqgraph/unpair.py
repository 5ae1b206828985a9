"""`unpaired`: what takes a pair out of a graph, so that its readers see real numbers that were not rounded."""

from __future__ import annotations

from .edit import Proposal, Rewire
from .graph import Graph, key
from .pair import Pair
from .replacing import constant, operator, replace
from .weights import weights


def unpaired(graph: Graph, pair: Pair) -> tuple[Proposal, ...]:
    """Edits after which nothing reads the pair; none where the file does not hold the real numbers.

    Readers of the DequantizeLinears read the tensor in front of the QuantizeLinear. Integer weights become the floats
    that they stand for. A DequantizeLinear that is a graph output is an Identity from then on.
    """
    if pair.quantize is None:
        reals = weights(graph, pair) if pair.kind != "activation" else None
        if reals is None:
            return ()
        return tuple(replace(graph, [d], [constant(key(d), reals)]) for d in pair.dequantizes)
    edits: list[Proposal] = []
    for dequantize in pair.dequantizes:
        readers = graph.readers(key(dequantize))
        if key(dequantize) in graph.outputs or any(r.index < 0 for r in readers):
            edits.append(replace(graph, [dequantize], [operator("Identity", [pair.tensor], key(dequantize))]))
        else:
            edits += [Rewire(r.key, pair.tensor) for r in readers]
    return tuple(edits)
