"""A model with weights of some size inside its file, and what leaves weights of any size there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qdqgraph.model import skeleton

SIDE = 256
FLOAT = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[1,{SIDE}] x) => (float[1,{SIDE}] y)
<float s = {{0.01}}, float t = {{0.011}}, int8 z = {{0}}> {{
  q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
  wq = QuantizeLinear (w, s, z)  wd = DequantizeLinear (wq, s, z)
  a = MatMul (d, wd)
  aq = QuantizeLinear (a, s, z)  ad = DequantizeLinear (aq, s, z)
  bq = QuantizeLinear (ad, t, z)  bd = DequantizeLinear (bq, t, z)
  vd = DequantizeLinear (v, s, z)
  e = MatMul (bd, vd)
  c = Constant <value_floats: floats = [0.0]> ()
  y = MatMul (e, c)
}}"""


def heavy_model(folder: Path) -> Path:
    """Writes model.onnx with float weights of 256 KiB and INT8 weights of 64 KiB inside, a Constant node of 256 KiB, and
    a pair too many."""
    model = onnx.parser.parse_model(FLOAT)
    random = np.random.default_rng(0)
    weights = random.normal(size=(SIDE, SIDE)).astype("f")
    integers = random.integers(-127, 128, (SIDE, SIDE)).astype(np.int8)
    model.graph.initializer.extend([numpy_helper.from_array(weights, "w"), numpy_helper.from_array(integers, "v")])
    constant = next(node for node in model.graph.node if node.op_type == "Constant")
    constant.attribute[0].CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(weights)))
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return folder / "model.onnx"


def inside(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Leaves weights in files of any size; returns what tells whether a file is read so."""
    monkeypatch.setattr(skeleton, "LIMIT", 0)
    seen: list[bool] = []
    refer = skeleton._referred

    def referred(*arguments: Any) -> bool:
        seen.append(refer(*arguments))
        return seen[-1]

    monkeypatch.setattr(skeleton, "_referred", referred)
    return seen
