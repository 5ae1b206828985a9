"""`validate` and `validate_references`: reject damaged models before any other code uses them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import onnx

from ..errors import GraphError
from .protos import STANDARD, is_ordered, key, reads
from .wellformed import refuse_malformed


def validate(model: onnx.ModelProto, accepted: Collection[bytes] = ()) -> bool:
    """Checks nodes, duplicate outputs and cycles, and what `refuse_malformed` checks.

    Args:
        model: the model.
        accepted: as `refuse_malformed`.

    Returns:
        Whether the nodes are in topological order, see `protos.is_ordered`.

    Raises:
        GraphError: ONNX's opset is imported in two versions; a node has no operator; a tensor has two producers, or one
            and is an input or initializer too; an output that is an input is declared differently; the graph has a
            cycle; or as `refuse_malformed`.
    """
    refuse_malformed(model, accepted)
    opsets = sorted({entry.version for entry in model.opset_import if entry.domain in STANDARD})
    if len(opsets) > 1:
        raise GraphError(f"the file imports the opset of ONNX in the versions {opsets[0]} and {opsets[-1]}: import one")
    nodes = model.graph.node
    given = {x.name for x in (*model.graph.input, *model.graph.initializer)}
    producer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        if not node.op_type:
            raise GraphError(f"node {position} ('{node.name or key(node)}') has no operator: the file is damaged")
        for name in node.output[:]:
            if name and producer.setdefault(name, position) != position:
                raise GraphError(f"tensor '{name}' has two producers; ONNX allows one")
            if name in given:
                raise GraphError(
                    f"tensor '{name}' is the output of a node, and also an input or initializer of the graph; ONNX "
                    "allows one of them"
                )
    _refuse_two_types(model.graph)
    if is_ordered(nodes):
        return True
    _refuse_cycle(nodes, producer)
    return False


def _refuse_two_types(graph: onnx.GraphProto) -> None:
    """Rejects an output that is an input and is declared with another type or other dimensions."""
    given = {info.name: info.type.tensor_type for info in graph.input}
    for info in graph.output:
        one, other = given.get(info.name), info.type.tensor_type
        if one is None or not (one.elem_type and other.elem_type):
            continue
        dims = [[d.dim_value if d.HasField("dim_value") else None for d in t.shape.dim] for t in (one, other)]
        differ = one.HasField("shape") and other.HasField("shape") and len(dims[0]) != len(dims[1])
        differ = differ or any(a != b for a, b in zip(*dims, strict=False) if a is not None and b is not None)
        if differ or one.elem_type != other.elem_type:
            raise GraphError(f"'{info.name}' is an input and an output of the graph, and they are declared differently")


def validate_references(graph: onnx.GraphProto) -> None:
    """Checks that every node input exists. Called once on the user's graph, before rules change it.

    Raises:
        GraphError: a node input is neither a node output, nor a graph input, nor an initializer.
    """
    known = {"", *(x.name for x in (*graph.input, *graph.initializer))}
    known.update(x.values.name for x in graph.sparse_initializer)
    for node in graph.node:
        known.update(node.output[:])
    for node in graph.node:
        if not known.issuperset(inputs := node.input[:]):
            name = next(name for name in inputs if name not in known)
            raise GraphError(
                f"node '{node.name or key(node)}' reads '{name}', which has no producer: the file is damaged"
            )


def _refuse_cycle(nodes: Sequence[onnx.NodeProto], producer: Mapping[str, int]) -> None:
    needs = {position: {producer[n] for n in reads(node) if n in producer} for position, node in enumerate(nodes)}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        names = " -> ".join(f"'{key(nodes[position])}'" for position in error.args[1][:6])
        raise GraphError(f"the graph has a cycle: {names}") from error
