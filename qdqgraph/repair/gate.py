"""Refuses models in which nothing is quantized, before any rule runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from ..errors import GraphError
from ..graph.graph import Graph
from ..graph.pair import pairs
from ..model.protos import nested
from ..model.validate import validate_references
from ..operators import PAIRS
from ..rulekit import catalog
from ..rulekit.rule import Rule, handled
from ..targets.target import Target

PLACES = "subgraphs (If, Loop, Scan), or functions that a rule handles,"
BARE = "qdqgraph.bare"
"""Metadata key of a model whose last pair a repair removed, so that later runs accept the model."""


def opened(model: onnx.ModelProto, rules: Sequence[Rule], target: Target, folder: Path | None = None) -> Graph:
    """Returns the view of a model that rules see: with its local functions inlined, except those that a rule handles.

    Raises:
        GraphError: as `quantized`; or the model cannot be imported, or a function with Q/DQ cannot be inlined.
    """
    return quantized(Graph.opened(model, folder, target=target, keeps=handled(rules)), rules)


def unquantized(model: onnx.ModelProto, rules: Sequence[Rule], target: Target, folder: Path | None = None) -> Graph:
    """Returns the view of a float model that rules see; as `opened`.

    Raises:
        GraphError: the model has Q/DQ pairs, or operators that compute with integers; or as `opened`.
    """
    graph = Graph.opened(model, folder, target=target, keeps=handled(rules))
    validate_references(graph.model.graph)
    inner = any(node.op_type in PAIRS for outer in graph.model.graph.node for node in nested(outer))
    if inner or not is_bare(graph, catalog.load()):
        raise GraphError(
            "this model is quantized already, and quantize takes a float network; what repairs a quantized model, and "
            "measures its scales, is: qdqgraph fix MODEL -o OUT --data DATA"
        )
    return graph


def quantized(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """Returns the graph if it has, or had before a repair, a Q/DQ pair or an operator that a rule treats as quantized.

    Raises:
        GraphError: it has none, or a node reads a tensor without a producer.
    """
    validate_references(graph.model.graph)
    if not is_float(graph, rules):
        return graph
    if b"QuantizeLinear" in graph.model.SerializeToString():
        raise GraphError(
            f"all Q/DQ of the model are inside {PLACES} which qdqgraph does not change: export the model without them"
        )
    raise GraphError(
        "this is a float model: it has no QuantizeLinear or DequantizeLinear, and no rule treats one of its operators "
        "as quantized; quantize it first: qdqgraph quantize MODEL -o OUT --data DATA"
    )


def is_float(graph: Graph, rules: Sequence[Rule]) -> bool:
    """Returns whether `quantize` takes the model of a graph, not `fix`: it has and had nothing quantized. Unselected
    rules also define what is."""
    return is_bare(graph, rules) and not was_bared(graph) and is_bare(graph, catalog.load())


def is_bare(graph: Graph, rules: Sequence[Rule]) -> bool:
    """Returns whether the graph has neither a pair nor an operator that a rule treats as quantized."""
    return not len(pairs(graph)) and not any(rule.quantized_nodes(graph) for rule in rules)


def was_bared(graph: Graph) -> bool:
    """Returns whether an earlier repair removed the model's last pair."""
    return any(entry.key == BARE for entry in graph.model.metadata_props)
