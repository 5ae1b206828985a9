"""The topological order of a draft's nodes."""

from __future__ import annotations

import heapq
from graphlib import CycleError, TopologicalSorter

import onnx

from ..errors import PlanError
from ..model.protos import is_ordered, reads


def ordered(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Returns the nodes in topological order; a node moves only if one of its producers comes later.

    Raises:
        PlanError: the graph has a cycle.
    """
    if is_ordered(nodes):
        return nodes
    producer = {name: i for i, n in enumerate(nodes) for name in n.output if name}
    needs = [{producer[name] for name in reads(n) if name in producer} - {i} for i, n in enumerate(nodes)]
    sorter = TopologicalSorter(dict(enumerate(needs)))
    try:
        sorter.prepare()
    except CycleError as error:
        raise PlanError("the repair would add a cycle to the graph; this is a defect of a rule") from error
    ready = [*sorter.get_ready()]
    heapq.heapify(ready)
    order: list[onnx.NodeProto] = []
    while ready:
        index = heapq.heappop(ready)  # the first node whose producers are all placed
        order.append(nodes[index])
        sorter.done(index)
        for next_index in sorter.get_ready():
            heapq.heappush(ready, next_index)
    return order
