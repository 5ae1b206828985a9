"""`standalone`: a model that computes what an engine computes, with the inputs and outputs of the original."""

from __future__ import annotations

import onnx
from onnx import helper

from ...calibration.statistics.floating import sweep
from ...graph.graph import Graph
from ...model.protos import refill, rename_inputs
from ..layers import Engine
from .blocks import blocks, of_libraries, written
from .evaluation import REALS, evaluate
from .network import FLOAT, Network


def standalone(graph: Graph, engine: Engine) -> onnx.ModelProto:
    """A model that any ONNX runtime computes as the engine would, with graph optimizations disabled.

    Args:
        graph: the Q/DQ graph, without local functions.
        engine: its forecast.
    """
    network = Network(graph.model)
    declared = list(graph.model.graph.output)
    plain, known = of_libraries(graph, engine)
    whole = evaluate(graph, network, written(known), blocks(plain, known))
    own = {o.name: network.name(f"{o.name}/original") for o in declared}
    last: list[onnx.NodeProto] = []
    for info in declared:
        value, kind = whole.value(info.name), graph.dtype(info.name)
        typed = network.cast(value, kind) if kind in REALS and kind != FLOAT else value
        last.append(helper.make_node("Identity", [own.get(typed, typed)], [info.name]))
    model = network.finish({})
    for node in model.graph.node:
        rename_inputs(node, own)
        for index, name in enumerate(node.output):
            node.output[index] = own.get(name, name)
    model.graph.node.extend(last)
    refill(model.graph.output, declared)
    sweep(model.graph)
    return model
