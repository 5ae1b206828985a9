"""One quantized convolution whose weights are floats or integers, and its float network."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

CHANNELS, INPUTS = 3, 200


def reals() -> np.ndarray:
    """Channel 0 is uniform; channel 1 has one value that is 1.6 times as large as the others; channel 2 is small."""
    random = np.random.default_rng(0)
    found = random.uniform(-1, 1, (CHANNELS, INPUTS, 1, 1)).astype(np.float32)
    found[0, 0] = found[1, 0] = 1
    found[1, 1] = 1.02
    found[2] *= 0.01
    return found


def network(values: np.ndarray, *, stored: bool, scale: np.ndarray | None = None) -> onnx.ModelProto:
    """One convolution with its weights as floats upstream of a QuantizeLinear, or as integers."""
    scale = np.abs(values).max(axis=(1, 2, 3)) / 127 if scale is None else scale
    along = scale.reshape(-1, 1, 1, 1) if scale.ndim else scale
    integers = np.clip(np.rint(values / along), -127, 127).astype(np.int8)
    axis = "<axis = 0>" if scale.ndim else ""
    quantize = "" if stored else f"i = QuantizeLinear {axis} (w, sw, zw)"
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,{INPUTS},4,4] x) => (float[1,{CHANNELS},4,4] y) <float s = {{0.01}}, int8 z = {{0}}>
        {{
            {quantize}
            k = DequantizeLinear {axis} (i, sw, zw)
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            y = Conv (d, k)
        }}""")
    arrays = {"sw": scale.astype(np.float32), "zw": np.zeros(scale.shape, np.int8)}
    arrays |= {"i": integers} if stored else {"w": values}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    return model


def reference(values: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,{INPUTS},4,4] x) => (float[1,{CHANNELS},4,4] y) {{ y = Conv (x, w) }}""")
    model.graph.initializer.append(numpy_helper.from_array(values, "w"))
    return model
