"""Weights as integers: a QuantizeLinear of a constant is computed here, once, with its exact FP32 scale.

In FP16 it would read rounded weights and a rounded scale, and some integers would come out one off.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..graph.graph import Graph
from ..graph.pair import Pair, pairs
from ..graph.quantization import Quantization
from ..model.protos import refill


def folded(model: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    """The model with every quantized constant stored as its integers; DequantizeLinears read them as before."""
    graph = Graph(model, folder)
    made: dict[str, np.ndarray] = {}
    for pair in pairs(graph):
        name = pair.quantize.outputs[0].name if pair.quantize is not None else ""
        if name and name not in graph.outputs and (integers := _integers(graph, pair)) is not None:
            made[name] = integers
    if not made:
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    kept = [n for n in new.graph.node if n.op_type != "QuantizeLinear" or n.output[0] not in made]
    refill(new.graph.node, kept)
    new.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in made.items())
    return new


def _integers(graph: Graph, pair: Pair) -> np.ndarray | None:
    """What the QuantizeLinear of a pair makes of a constant; None of anything else.

    Types narrower than 8 bits are packed in the file and left as they are.
    """
    cast = graph.producer(pair.tensor)
    seen = cast.inputs[0].name if cast is not None and cast.op == "Cast" else pair.tensor
    grid, array = Quantization.of(pair), graph.array(seen)
    if grid is None or array is None or grid.zero_point.dtype not in (np.int8, np.uint8) or not grid.fits(array):
        return None
    if not np.all(np.isfinite(grid.scale) & (grid.scale > 0)):
        return None
    return grid.integers(array.astype(grid.scale.dtype))
