"""The largest magnitude that each tensor reaches on given inputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from ..model import shapes
from ..model.protos import refill, version
from ..model.runtime import Feeds
from .inputs import model_inputs
from .statistics.floating import CONSTANT_INITIALIZERS
from .statistics.running import DEFAULT_MEMORY, Running

INFINITE, NOTHING = "qdqgraph_infinite", "qdqgraph_nothing"
"""Names of constants in the graph that measures ranges."""


def measured_ranges(
    model: onnx.ModelProto, feeds: Feeds, folder: Path, memory: int = DEFAULT_MEMORY
) -> dict[str, float]:
    """The largest finite magnitude of each FP32 tensor over the samples, by tensor name; without tensors inside
    subgraphs.

    Infinite values, as in masks or the padding of a MaxPool, do not count: they are infinite in any floating-point
    type. Models below opset 9 have no Where to exclude them.

    Args:
        feeds: the inputs of each sample, by name.
        folder: where external data lie.
        memory: the limit for the peak resident memory of the process, in bytes.

    Raises:
        ModelError: onnxruntime cannot load or run the model, or one node alone needs more memory.
    """
    known = shapes.infer(model)
    outputs = (name for node in model.graph.node if node.op_type != "Constant" for name in node.output)
    given = [i.name for i in model_inputs(model)]
    names = [n for n in (*given, *outputs) if n in known and known[n][0] == onnx.TensorProto.FLOAT]
    if not names:
        return {}
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    widened.ir_version = max(widened.ir_version, CONSTANT_INITIALIZERS)
    refill(widened.graph.input, model_inputs(model))
    del widened.graph.output[:]
    finite = version(model) >= 9
    for constant, value in ((INFINITE, math.inf), (NOTHING, 0.0)) if finite else ():
        widened.graph.node.append(onnx.helper.make_node("Constant", [], [constant], value=_scalar(value)))
    reduced: dict[str, str] = {}
    for index, name in enumerate(names):
        size, reduced[name] = f"qdqgraph_size_{index}", f"qdqgraph_amax_{index}"
        widened.graph.node.append(onnx.helper.make_node("Abs", [name], [size]))
        if finite:
            inside, kept = f"qdqgraph_inside_{index}", f"qdqgraph_kept_{index}"
            widened.graph.node.append(onnx.helper.make_node("Less", [size, INFINITE], [inside]))
            widened.graph.node.append(onnx.helper.make_node("Where", [inside, size, NOTHING], [kept]))
            size = kept
        widened.graph.node.append(onnx.helper.make_node("ReduceMax", [size], [reduced[name]], keepdims=0))
        widened.graph.output.append(onnx.helper.make_tensor_value_info(reduced[name], onnx.TensorProto.FLOAT, []))
    # All tensors of a detector together would fill the memory: reduced in the graph, a few at a time.
    running = Running(widened, folder, tuple(reduced.values()), memory)
    found = dict.fromkeys(reduced.values(), 0.0)
    for feed in feeds:
        for amax, reached in running.run(feed):
            found[amax] = max(found[amax], np.nan_to_num(reached.astype(np.float64), nan=math.inf).item())
    return {name: found[amax] for name, amax in reduced.items()}


def _scalar(value: float) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array(value, np.float32))
