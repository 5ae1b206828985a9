"""Folds the QuantizeLinear of a constant: the integers are computed once, with the exact FP32 scale.

In FP16 it would consume rounded weights and a rounded scale, and some integers would be off by one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from ..graph.graph import Graph
from ..graph.pair import Pair, pairs
from ..graph.quantization import Quantization
from ..model.protos import refill
from ..model.writing.spill import tensor_of


def folded(model: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    """Returns the model with every quantized constant stored as integers, consumed by the same DequantizeLinears."""
    graph = Graph(model, folder)
    constants: dict[str, onnx.TensorProto] = {}
    for pair in pairs(graph):
        name = pair.quantize.outputs[0].name if pair.quantize is not None else ""
        if name and name not in graph.outputs and (integers := _integers(graph, pair)) is not None:
            constants[name] = tensor_of(integers, name)
    if not constants:
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    kept = [n for n in new.graph.node if n.op_type != "QuantizeLinear" or n.output[0] not in constants]
    refill(new.graph.node, kept)
    new.graph.initializer.extend(constants.values())
    return new


def _integers(graph: Graph, pair: Pair) -> np.ndarray | None:
    """Returns the output of a pair's QuantizeLinear if its input is constant; None otherwise.

    Types narrower than 8 bits are packed in the file and stay unchanged.
    """
    cast = graph.producer(pair.tensor)
    seen = cast.inputs[0].name if cast is not None and cast.op == "Cast" else pair.tensor
    quantization, array = Quantization.of(pair), graph.array(seen)
    if quantization is None or array is None or not quantization.fits(array):
        return None
    if quantization.zero_point.dtype not in (np.int8, np.uint8):
        return None
    if not np.all(np.isfinite(quantization.scale) & (quantization.scale > 0)):
        return None
    return quantization.quantize(array.astype(quantization.scale.dtype))
