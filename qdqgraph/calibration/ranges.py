"""The largest magnitude that each tensor reaches on given inputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from ..model import shapes
from ..model.protos import version
from ..model.runtime import Feeds, run
from .inputs import model_inputs

INFINITE, NOTHING = "qdqgraph_infinite", "qdqgraph_nothing"
"""Names of constants in the graph that measures ranges."""


def measured_ranges(model: onnx.ModelProto, feeds: Feeds, folder: Path) -> dict[str, float]:
    """The largest finite magnitude of each FP32 tensor over the samples, by tensor name; without tensors inside
    subgraphs.

    Infinite values, as in masks or the padding of a MaxPool, do not count: they are infinite in any floating-point
    type. Models below opset 9 have no Where to exclude them.

    Args:
        feeds: the inputs of each sample, by name.
        folder: where external data lie.

    Raises:
        ModelError: onnxruntime cannot load or run the model.
    """
    known = shapes.infer(model)
    outputs = (name for node in model.graph.node if node.op_type != "Constant" for name in node.output)
    given = [i.name for i in model_inputs(model)]
    names = [n for n in (*given, *outputs) if n in known and known[n][0] == onnx.TensorProto.FLOAT]
    if not names:
        return {}
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    del widened.graph.output[:]
    finite = version(model) >= 9
    for constant, value in ((INFINITE, math.inf), (NOTHING, 0.0)) if finite else ():
        widened.graph.node.append(onnx.helper.make_node("Constant", [], [constant], value=_scalar(value)))
    # Reduced in the graph: all tensors of a detector together would fill the memory.
    for index, name in enumerate(names):
        size, amax = f"qdqgraph_size_{index}", f"qdqgraph_amax_{index}"
        widened.graph.node.append(onnx.helper.make_node("Abs", [name], [size]))
        if finite:
            inside, kept = f"qdqgraph_inside_{index}", f"qdqgraph_kept_{index}"
            widened.graph.node.append(onnx.helper.make_node("Less", [size, INFINITE], [inside]))
            widened.graph.node.append(onnx.helper.make_node("Where", [inside, size, NOTHING], [kept]))
            size = kept
        widened.graph.node.append(onnx.helper.make_node("ReduceMax", [size], [amax], keepdims=0))
        widened.graph.output.append(onnx.helper.make_tensor_value_info(amax, onnx.TensorProto.FLOAT, []))
    found = np.asarray(run(widened, feeds, folder), np.float64).reshape(-1, len(names))
    return dict(zip(names, np.nan_to_num(found, nan=math.inf).max(axis=0, initial=0).tolist(), strict=True))


def _scalar(value: float) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array(value, np.float32))
