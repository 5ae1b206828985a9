"""`remove_pair`: edits that remove a pair from a graph, so that its readers read unquantized float values."""

from __future__ import annotations

from ..graph.graph import Graph, key
from ..graph.pair import Pair
from .clipping import clip_nodes, clips_negatives
from .folding import store_floats
from .nodes import make_node, replace
from .proposal import Proposal, Rewire
from .weights import pair_readers


def remove_pair(graph: Graph, pair: Pair) -> tuple[Proposal, ...]:
    """Edits after which nothing reads the pair; empty if the file does not contain the float values, or the pair does
    more than round because its nodes disagree.

    Readers of the DequantizeLinears then read the input of the QuantizeLinear. A pair that clips negative values leaves
    a Clip to its range. Integer weights become their float values. A DequantizeLinear that is a graph output, or that a
    subgraph reads, becomes an Identity. A pair without readers is removed.
    """
    if pair.quantize is None:
        return store_floats(graph, pair) if pair.kind != "activation" else ()
    if not pair.agrees:
        return ()
    edits: list[Proposal] = []
    if not pair_readers(graph, pair) and not graph.outputs & {key(n) for n in pair.nodes}:
        others = any(r.node not in pair.dequantizes for r in graph.readers(key(pair.quantize)))
        gone = pair.dequantizes if others else pair.nodes  # what else reads the integers keeps the Q
        return (replace(gone, []),) if gone else ()
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
