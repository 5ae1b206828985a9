"""The examples of docs/api.md, which a test runs in the order of the page: code, and what it prints."""

from __future__ import annotations

from collections.abc import Mapping

SETUP = """
import numpy as np
import onnx
import qdqgraph

weights = "float[4,4,1,1] w = {%s}" % ", ".join(str(value / 16) for value in range(-8, 8))
head = '<ir_version: 8, opset_import: ["" : 17]> net (float[1,4,8,8] x) => (float[1,4,8,8] y)'
pair = "{1} = QuantizeLinear ({0}, {2}, z) {1}d = DequantizeLinear ({1}, {2}, z)"
onnx.save(onnx.parser.parse_model(f"{head} <{weights}> {{ a = Conv (x, w) b = Relu (a) y = Conv (b, w) }}"), "float.onnx")
scales = "float s = {0.05}, float t = {0.06}, float u = {0.004}, int8 z = {0}"
body = " ".join([
    pair.format("w", "wq", "u"), pair.format("x", "xq", "s"), "a = Conv (xqd, wqd) b = Relu (a)",
    pair.format("b", "p", "s"), pair.format("b", "q", "t"), "c = Conv (pd, wqd) d = Conv (qd, wqd) y = Add (c, d)",
])
onnx.save(onnx.parser.parse_model(f"{head} <{weights}, {scales}> {{ {body} }}"), "model.onnx")
np.savez("inputs.npz", x=np.random.default_rng(0).normal(size=(8, 4, 8, 8)).astype(np.float32))
"""

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "check": (
        """
found = qdqgraph.check("model.onnx", select=["QDQ1"])
print(found)
for finding in found:
    print(finding.code, finding.place, finding.bytes, finding.repairable)
""",
        """
<Checked 'model.onnx': 1 finding, 1 repairable; 3 of 3 weighted layers in INT8, 3 INT8 tensors, 6,144 bytes (forecast for trt-10)>
QDQ104 b 1792 True
""",
    ),
    "fix": (
        """
result = qdqgraph.fix("model.onnx", output="fixed.onnx", plan="plan.json", max_bits_lost=1.5)
print(result)
print([finding.code for finding in result.applied], result.left, result.written)
""",
        """
<Result 'model.onnx': 2 findings repaired, 0 left, <Plan: 19 edits, ...>; 3 -> 3 weighted layers in INT8; written to 'fixed.onnx'>
['QDQ303', 'QDQ104'] () fixed.onnx
""",
    ),
    "quantize": (
        """
int8 = qdqgraph.quantize("float.onnx", data="inputs.npz", output="int8.onnx", force=True)
print(int8.int8[1].sentence, int8.floats)
""",
        """
2 of 2 weighted layers in INT8, 2 INT8 tensors, 3,072 bytes (forecast for trt-10) ()
""",
    ),
    "strip": (
        """
stripped = qdqgraph.strip("fixed.onnx", ["y", "c"])
print(stripped)
""",
        """
<Result 'fixed.onnx': 2 findings repaired, 0 left, <Plan: 3 edits, ...>>
""",
    ),
    "to_fp16": (
        """
half = qdqgraph.to_fp16(result.model, keep_io=True)
print(half)
""",
        """
<Fp16Model: 0 nodes in FP32, 1 Cast, scales change by at most 0.0004>
""",
    ),
    "apply": (
        """
model = qdqgraph.apply("plan.json", "model.onnx")
print(model == result.model)
""",
        "True",
    ),
    "undo": (
        """
original = qdqgraph.undo(result.plan, "fixed.onnx", output="restored.onnx")
print(original == onnx.load("model.onnx"))
""",
        "True",
    ),
    "diff": (
        """
for line in qdqgraph.diff("model.onnx", "fixed.onnx"):
    print(line)
""",
        """
~ 'b': scale 0.05 and 0.06 -> 0.06
""",
    ),
    "rules": (
        """
for rule in qdqgraph.rules(select=["QDQ10"], ignore=["QDQ107"]):
    print(rule.code, rule.name)
""",
        """
QDQ101 concat-scales-differ
QDQ102 maxpool-scales-differ
QDQ103 moved-scales-differ
QDQ104 tensor-quantized-twice
QDQ105 residual-scales-differ
QDQ106 values-lost
""",
    ),
    "why": (
        """
answer = qdqgraph.why("QDQ104", "model.onnx", "b")
print(answer.applies)
""",
        "True",
    ),
    "error": (
        """
layers = qdqgraph.error("fixed.onnx", "inputs.npz", samples=4)
print(layers)
for row in layers.layers:
    print(row.layer, round(row.alone.sqnr, 1), row.findings)
""",
        """
<Accuracy: 3 layers on 4 samples, worst 'c' with 32.9 dB>
c 32.9 ()
d 32.9 ()
a 36.5 ()
""",
    ),
    "sensitivity": (
        """
units = qdqgraph.sensitivity("fixed.onnx", "inputs.npz", by="layer", samples=4)
print([(unit.name, round(unit.gain, 1)) for unit in units.units])
""",
        """
[('c', 3.5), ('d', 3.5), ('a', 1.4)]
""",
    ),
    "engine_error": (
        """
numbers = qdqgraph.engine_error("fixed.onnx", "inputs.npz", "trt-10", samples=4)
print(numbers)
""",
        """
<EngineNumbers trt-10: 3 kernels on 4 samples>
""",
    ),
    "tune": (
        """
tuned = qdqgraph.tune("model.onnx", "inputs.npz", min_speed=0.5, trials=2, storage="sqlite:///tune.db")
print(tuned.outcome.chosen.name, len(tuned.outcome.front) > 0)
""",
        "...True",
    ),
    "tune_status": (
        """
print(qdqgraph.tune_status("sqlite:///tune.db").measured > 0)
""",
        "True",
    ),
    "forecast": (
        """
engine = qdqgraph.forecast("fixed.onnx", "trt-10", output="engine.json")
print(engine)
for layer in engine.layers:
    print(layer.name, layer.precision, layer.bytes)
""",
        """
<Engine 'fixed.onnx', forecast for trt-10: 4 kernels, 1 reformat, 4,352 bytes>
QuantizeLinear(xq) INT8 1280
w + Conv(a) + Relu(b) INT8 512
w + Conv(c) INT8 768
w + Conv(d) + Add(y) INT8 1792
""",
    ),
    "build": (
        """
try:
    built = qdqgraph.build("fixed.onnx", "tensorrt-rtx")  # on a CPU; needs pip install 'qdqgraph[tensorrt]'
    print(len(built.layers) > 0)
except qdqgraph.EngineError as error:
    print(error)
""",
        "",
    ),
    "read_engine": (
        """
print(qdqgraph.read_engine("engine.json") == engine)
""",
        "True",
    ),
    "compare": (
        """
found = qdqgraph.compare("model.onnx", engine)
print(found.worse or "not worse")
""",
        "not worse",
    ),
    "estimate": (
        """
for estimate in qdqgraph.estimate(["model.onnx", engine], device="orin"):
    print(estimate.engine.name, estimate.ms < 1)
""",
        """
fixed.onnx True
model.onnx True
""",
    ),
}
"""For each function its example, and the output that the page quotes."""
