"""Chains of layers whose channels have ranges of known ratio."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

RATIOS = 2.0 ** np.array([0, -2, -3, -4, -1, -4, -3, -2])
"""The range of each of eight channels."""

CHAIN = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4,8,8] x) => (float[1,4,8,8] y)
    {
        a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
        r = Relu (a)
        y = Conv (r, v)
    }"""

QUANTIZED = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float s = {0.03}, float t = {0.1}, int8 z = {0}>
    {
        wq = QuantizeLinear <axis = 0> (w, ws, wz)
        wd = DequantizeLinear <axis = 0> (wq, ws, wz)
        vq = QuantizeLinear <axis = 0> (v, vs, vz)
        vd = DequantizeLinear <axis = 0> (vq, vs, vz)
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        a = Conv <pads = [1, 1, 1, 1]> (d, wd, b)
        r = Relu (a)
        rq = QuantizeLinear (r, t, z)
        rd = DequantizeLinear (rq, t, z)
        y = Conv (rd, vd)
    }"""
"""The same through Q/DQ pairs, with float weights in the file."""


def filled(text: str, arrays: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A model whose text lacks initializers, with these."""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def arrays(ratios: np.ndarray = RATIOS, seed: int = 100) -> dict[str, np.ndarray]:
    """Weights and bias of `CHAIN`, so that the channels of `r` have ranges of these ratios, and the output has none."""
    random = np.random.default_rng(seed)
    found = {
        "w": random.normal(size=(8, 4, 3, 3)) * ratios.reshape(-1, 1, 1, 1),
        "v": random.normal(size=(4, 8, 1, 1)) / ratios.reshape(1, -1, 1, 1),
        "b": random.normal(size=8) * ratios,
    }
    return {name: a.astype(np.float32) for name, a in found.items()}


def quantized(ratios: np.ndarray = RATIOS) -> onnx.ModelProto:
    """`QUANTIZED` with these weights and a scale for each output channel."""
    own = arrays(ratios)
    for name in "wv":
        own[f"{name}s"] = np.abs(own[name]).max(axis=(1, 2, 3)) / np.float32(127)
        own[f"{name}z"] = np.zeros(len(own[name]), np.int8)
    return filled(QUANTIZED, own)


def normal(samples: int = 16, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Inputs of the chains."""
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(samples)]
