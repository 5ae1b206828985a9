"""`another_original`: a network that the weights of a file may come from as well.

Integers tell a weight up to half a step. A file that stores them without the float values has lost the rest: the float
network that it contains differs from the one that was quantized, by as much as rounding did. A weight drawn from all
that round to the same integer makes a network that differs from it by about as much: within 3 dB
at the outputs of five of nine files that were measured (docs/measurements/scales.md).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from ...graph.graph import Graph, key
from ...graph.pair import pairs
from ...model.writing.spill import tensor_of
from ...proposals.weights import dequantized_weights
from ..statistics.floating import FloatModel, steps_of

SEED = 0


def another_original(graph: Graph, network: FloatModel) -> onnx.ModelProto | None:
    """The float network with weights that round to the stored integers; None if the file stores none.

    A weight of zero stays: in a channel of small weights, where all of them are rounded to zero, half a step is far
    more than they were. So the true network differs by at least about as much.

    Args:
        graph: the Q/DQ graph.
        network: its float network.
    """
    random, new = np.random.default_rng(SEED), dict[str, onnx.TensorProto]()
    stored = {t.name: t for t in network.model.graph.initializer if t.name in network.weights}
    for pair in pairs(graph):
        array = dequantized_weights(graph, pair) if pair.kind == "weight" and pair.quantize is None else None
        if array is None:
            continue
        rounding = random.uniform(-0.5, 0.5, array.shape) * steps_of(pair, array)
        for name in (key(d) for d in pair.dequantizes if key(d) in stored):
            drawn = np.where(array == 0, 0, array.astype(np.float64) + rounding)
            kind = helper.tensor_dtype_to_np_dtype(stored[name].data_type)
            new[name] = tensor_of(np.ascontiguousarray(drawn.astype(kind)), name)
    if not new:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    for tensor in model.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(new[tensor.name])
    return model
