"""Which kernels TensorRT-RTX builds for one construct at a time, without a GPU: the table in docs/tensorrt.md.

    pip install tensorrt-rtx-cu12
    python -m benchmarks.rtx_experiments [WORD ...]

Each experiment is a network of a few nodes in ONNX text; WORDs select experiments by a part of their name. A row has the
construct, the kernels that were built (library kernels by their LayerType, generated ones by the operators in their name,
each with the types that it reads and writes), and the rule of the forecast that follows from it.
"""
# ruff: noqa: E501 - one experiment per line

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner

from qdqgraph.engines.builders.builder import built
from qdqgraph.engines.builders.how import Build
from qdqgraph.engines.layers import Layer
from qdqgraph.errors import EngineError

IMAGE = "float[1,4,16,16]"
ROWS = "float[1,16,32]"
SIXTEEN = ", ".join(["3"] * 16)
KERNEL = re.compile(r"__myl_(\w+?)(?:_myl\d+_\d+)?$")
FUNCTIONS = f"""
<domain: "t", opset_import: ["" : 20]>
pair (x, s) => (y) {{ z = Constant <value = int8 {{0}}> () q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }}
<domain: "t", opset_import: ["" : 20]>
conv (x, s) => (y) {{
    z = Constant <value = int8 {{0}}> ()  q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
    w = Constant <value = int8[4,4,1,1] {{{SIXTEEN}}}> ()  v = Constant <value = float[4] {{0.01, 0.02, 0.03, 0.04}}> ()
    u = Constant <value = int8[4] {{0, 0, 0, 0}}> ()  k = DequantizeLinear <axis = 0> (w, v, u)  y = Conv (d, k)
}}
<domain: "t", opset_import: ["" : 20]>
bare (x) => (y) {{
    w = Constant <value = int8[4,4,1,1] {{{SIXTEEN}}}> ()  v = Constant <value = float {{0.01}}> ()
    u = Constant <value = int8 {{0}}> ()  k = DequantizeLinear (w, v, u)  y = Conv (x, k)
}}
<domain: "t", opset_import: ["" : 20]>
wide (x, s) => (y) {{
    z = Constant <value = int8 {{0}}> ()  q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
    w = Constant <value = int8[4,8,1,1] {{{SIXTEEN}, {SIXTEEN}}}> ()  k = DequantizeLinear (w, s, z)  y = Conv (d, k)
}}
"""
CONSTANTS = f"""float s = {{0.1}}, float t = {{0.11}}, float u = {{0.12}}, float half = {{0.5}}, float three = {{3}}, int8 z = {{0}},
    int64[8] pads = {{0, 0, 1, 1, 0, 0, 1, 1}}, int64[4] twice = {{1, 1, 2, 2}}, float[4] scale = {{1, 1, 2, 2}},
    float[4,4,1,1] fw = {{{SIXTEEN}}}, int8[4,4,2,2] up = {{{", ".join([SIXTEEN] * 4)}}}, float[4] ones = {{1, 1, 1, 1}},
    int8[32,32] mw = {{{", ".join([SIXTEEN] * 64)}}}, float[32] bias = {{{", ".join(["1"] * 32)}}}, int64[1] last = {{-1}},
    float[4,1,3,3] dw = {{{", ".join(["0.1"] * 36)}}}, int64[3] rows = {{1, 4, 256}}, int64[5] volume = {{1, 4, 4, 8, 8}}, int64[4] image = {{1, 4, 16, 16}}"""


@dataclass(frozen=True)
class Experiment:
    """One construct.

    Attributes:
        name: the construct, in words.
        nodes: the nodes, from `x` to `y`.
        rule: the rule of the forecast (docs/engines.md) that follows.
        types: the types of `x` and `y`.
    """

    name: str
    nodes: str
    rule: str
    types: tuple[str, str] = (IMAGE, IMAGE)


POOL = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
NEAREST = '<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
PRODUCT = "p = t.pair (x, s) k = DequantizeLinear (mw, s, z) m = MatMul (p, k)"
UP = (IMAGE, "float[1,4,32,32]")
PADDED = (IMAGE, "float[1,4,18,18]")
EXPERIMENTS = (
    Experiment("Q, DQ", "y = t.pair (x, s)", "F7"),
    Experiment("Relu, Q, DQ, Sin", "a = Relu (x) p = t.pair (a, s) y = Sin (p)", "F6, F7"),
    Experiment("Sin, Q, Conv", "a = Sin (x) y = t.conv (a, s)", "F7"),
    Experiment("Conv, Q, DQ, Sin", "a = t.conv (x, s) p = t.pair (a, t) y = Sin (p)", "F4; R11 on a GPU"),
    Experiment("two readers: Q, Conv and Sin", "a = Relu (x) b = t.conv (a, s) c = Sin (a) y = Add (b, c)", "F6"),
    Experiment("the same, the pair read by both", "a = Relu (x) p = t.pair (a, s) b = t.conv (p, s) c = Sin (p) y = Add (b, c)", "F4"),
    Experiment("two Qs on one tensor", "a = Relu (x) b = t.conv (a, s) c = t.conv (a, t) y = Concat <axis = 1> (b, c)", "F7", (IMAGE, "float[1,8,16,16]")),
    Experiment("Conv, BatchNormalization, Relu, Conv", "a = t.conv (x, s) b = BatchNormalization (a, ones, ones, ones, ones) r = Relu (b) y = t.conv (r, t)", "R11"),
    Experiment("Conv, SiLU, Conv", "a = t.conv (x, s) g = Sigmoid (a) m = Mul (a, g) y = t.conv (m, t)", "R20"),
    Experiment("Conv, GELU by Erf, Conv", "a = t.conv (x, s) e = Div (a, half) f = Erf (e) h = Add (f, half) m = Mul (a, h) y = t.conv (m, t)", "R20"),
    Experiment("Conv, GELU by Tanh, Conv", "a = t.conv (x, s) e = Pow (a, three) f = Mul (e, half) h = Add (a, f) i = Tanh (h) j = Add (i, half) m = Mul (a, j) y = t.conv (m, t)", "F11"),
    Experiment("float Conv, GELU by Tanh, float Conv", "a = Conv (x, fw) e = Pow (a, three) f = Mul (e, half) h = Add (a, f) i = Tanh (h) j = Add (i, half) m = Mul (a, j) y = Conv (m, fw)", "F2"),
    Experiment("residual Add, skip unquantized", "a = t.conv (x, s) r = Relu (a) b = t.conv (r, t) c = Add (b, r) o = Relu (c) y = t.conv (o, u)", "R12"),
    Experiment("residual Add, skip quantized", "a = t.conv (x, s) r = Relu (a) b = t.conv (r, t) k = t.pair (r, t) c = Add (b, k) o = Relu (c) y = t.conv (o, u)", "R12"),
    Experiment("SiLU, residual Add", "a = t.conv (x, s) r = Relu (a) b = t.conv (r, t) g = Sigmoid (b) m = Mul (b, g) k = t.pair (r, t) c = Add (m, k) y = t.conv (c, u)", "T1"),
    Experiment("Concat of convolutions", "a = t.conv (x, s) b = t.conv (x, t) c = Concat <axis = 1> (a, b) y = t.wide (c, u)", "F6, R15"),
    Experiment("Concat of other nodes", "a = Relu (x) b = Sin (x) c = Concat <axis = 1> (a, b) y = t.wide (c, u)", "F6"),
    Experiment("Concat, scales differ", "a = t.conv (x, s) b = t.conv (x, t) p = t.pair (a, s) q = t.pair (b, t) c = Concat <axis = 1> (p, q) y = t.wide (c, u)", "F7"),
    Experiment("Conv, Relu, MaxPool, Conv", f"a = t.conv (x, s) r = Relu (a) p = MaxPool {POOL} (r) y = t.conv (p, t)", "R16, T1"),
    Experiment("Relu, MaxPool, Sin", f"a = Relu (x) p = MaxPool {POOL} (a) y = Sin (p)", "F6: a library kernel"),
    Experiment("Conv, Q, DQ, MaxPool of three dimensions, Q, DQ, Conv", "a = t.conv (x, s) v = Reshape (a, volume) q = t.pair (v, t) p = MaxPool <kernel_shape = [3, 3, 3], pads = [1, 1, 1, 1, 1, 1]> (q) b = Reshape (p, image) y = t.conv (b, t)", "R16: not in INT8"),
    Experiment("Q, DQ, AveragePool, Q", f"a = t.conv (x, s) q = t.pair (a, t) p = AveragePool {POOL} (q) y = t.conv (p, u)", "R17"),
    Experiment("Relu, GlobalAveragePool, Mul", "a = Relu (x) p = GlobalAveragePool (a) y = Mul (a, p)", "F6"),
    Experiment("Q, DQ, Softmax, Q", "a = t.conv (x, s) p = t.pair (a, t) r = Softmax <axis = 1> (p) y = t.conv (r, u)", "F6, F7"),
    Experiment("Sin, LayerNormalization, Q, DQ", "a = Sin (x) b = LayerNormalization (a, bias, bias) y = t.pair (b, s)", "F6, F7", (ROWS, ROWS)),
    Experiment("MatMul, bias, Relu, Q, MatMul", f"{PRODUCT} a = Add (m, bias) r = Relu (a) q = t.pair (r, t) y = MatMul (q, k)", "R11", (ROWS, ROWS)),
    Experiment("MatMul, softmax, MatMul of activations", "p = t.pair (x, s) k = Transpose <perm = [0, 2, 1]> (p) m = MatMul (p, k) f = Softmax (m) q = t.pair (f, t) y = MatMul (q, p)", "R11, F6", (ROWS, ROWS)),
    Experiment("Gemm, Q, DQ, reductions, float Gemm", "p = t.pair (x, s) k = DequantizeLinear (mw, s, z) a = Gemm <transB = 1> (p, k, bias) q = t.pair (a, t) m = ReduceMax (q, last) d = Sub (q, m) e = Exp (d) f = Floor (e) g = Gemm <transB = 1> (f, k, bias) y = t.pair (g, u)", "F6, F7", ("float[16,32]", "float[16,32]")),
    Experiment("Conv, Reshape, Transpose, Conv", "a = t.conv (x, s) r = Reshape (a, rows) b = Reshape (r, image) c = Transpose <perm = [0, 1, 3, 2]> (b) y = t.conv (c, t)", "F6"),
    Experiment("Pad, Q, DQ, Conv", "a = t.conv (x, s) r = Relu (a) p = Pad (r, pads) y = t.conv (p, t)", "F8", PADDED),
    Experiment("Q, DQ, Pad, two Conv", "a = t.conv (x, s) q = t.pair (a, t) p = Pad (q, pads) b = t.bare (p) c = t.bare (p) y = Add (b, c)", "F14", PADDED),
    Experiment("the same, with a pair after the Pad", "a = t.conv (x, s) q = t.pair (a, t) p = Pad (q, pads) e = t.pair (p, t) b = t.bare (e) c = t.bare (e) y = Add (b, c)", "F6: the Q runs before the Pad", PADDED),
    Experiment("Q, DQ, nearest Resize, Conv", f"a = t.conv (x, s) q = t.pair (a, t) p = Resize {NEAREST} (q, , scale) y = t.bare (p)", "F14", UP),
    Experiment("Q, DQ, Pad, Sin", "a = t.conv (x, s) q = t.pair (a, t) p = Pad (q, pads) y = Sin (p)", "F6", PADDED),
    Experiment("Conv, Tile, Q, Conv", "a = t.conv (x, s) r = Tile (a, twice) y = t.conv (r, t)", "F6: the Q runs before the Tile", UP),
    Experiment("Conv, nearest Resize, Q, Conv", f"a = t.conv (x, s) r = Resize {NEAREST} (a, , scale) y = t.conv (r, t)", "F6: the Q runs before the Resize", UP),
    Experiment("Conv, linear Resize, Q, Conv", 'a = t.conv (x, s) r = Resize <mode = "linear"> (a, , scale) y = t.conv (r, t)', "F6: the Q runs after the Resize", UP),
    Experiment("Conv, Q, DQ, ConvTranspose, Relu, Q, Conv", "a = t.conv (x, s) p = t.pair (a, t) k = DequantizeLinear (up, s, z) b = ConvTranspose <strides = [2, 2]> (p, k) r = Relu (b) y = t.conv (r, u)", "ConvTranspose in floating point, also between pairs", UP),
    Experiment("Split, Sin, Concat", "a = Relu (x) b, c = Split <axis = 1, num_outputs = 2> (a) d = Sin (b) y = Concat <axis = 1> (d, c)", "F6"),
    Experiment("CumSum", "a = Sin (x) b = CumSum (a, last) c = Cos (b) y = Sin (c)", "F6: a kernel of its own"),
    Experiment("float Conv, Relu, Q, Conv", "a = Conv (x, fw) r = Relu (a) y = t.conv (r, s)", "F2, F7"),
    Experiment("float Conv, Clip, Conv", "a = Conv (x, fw) r = Clip (a, half, three) y = Conv (r, fw)", "F13"),
    Experiment("float Conv, SiLU, Conv", "a = Conv (x, fw) g = Sigmoid (a) m = Mul (a, g) y = Conv (m, fw)", "F13"),
    Experiment("depthwise float Conv, SiLU, Conv", "a = Conv <group = 4, pads = [1, 1, 1, 1]> (x, dw) g = Sigmoid (a) m = Mul (a, g) y = Conv (m, fw)", "F13"),
    Experiment("float Conv, SiLU, residual Add, Conv", "r = Sin (x) a = Conv (r, fw) g = Sigmoid (a) m = Mul (a, g) n = Add (m, r) y = Conv (n, fw)", "F13"),
    Experiment("float Conv, Relu, residual Add, Conv", "r = Sin (x) a = Conv (r, fw) b = Relu (a) n = Add (b, r) y = Conv (n, fw)", "F13"),
    Experiment("float Conv, Mul with another tensor, Conv", "r = Sin (x) a = Conv (r, fw) n = Mul (a, r) y = Conv (n, fw)", "F13"),
    Experiment("float Conv, Add, Add, Conv", "r = Sin (x) a = Conv (r, fw) m = Add (a, r) n = Add (m, x) y = Conv (n, fw)", "F2: the first Add"),
    Experiment("float Conv, SiLU, Concat, Sin", "r = Sin (x) a = Conv (r, fw) g = Sigmoid (a) m = Mul (a, g) c = Concat <axis = 1> (m, r) y = Sin (c)", "F13", (IMAGE, "float[1,8,16,16]")),
    Experiment("float Conv, SiLU, Transpose, Sin", "a = Conv (x, fw) g = Sigmoid (a) m = Mul (a, g) n = Transpose <perm = [0, 1, 3, 2]> (m) y = Sin (n)", "F13"),
    Experiment("float Conv, SiLU, Sin", "a = Conv (x, fw) g = Sigmoid (a) m = Mul (a, g) y = Sin (m)", "F6: not F13"),
    Experiment("float Conv, SiLU, Q, Conv", "a = Conv (x, fw) g = Sigmoid (a) m = Mul (a, g) y = t.conv (m, s)", "F7: not F13"),
    Experiment("float Conv, SiLU, GlobalAveragePool, Sin", "a = Conv (x, fw) g = Sigmoid (a) m = Mul (a, g) n = GlobalAveragePool (m) y = Sin (n)", "F6: not F13", (IMAGE, "float[1,4,1,1]")),
    Experiment("float Conv, two readers, Conv", "a = Conv (x, fw) b = Sin (a) c = Cos (a) d = Add (b, c) y = Conv (d, fw)", "F6"),
    Experiment("float Conv, PRelu, Conv", "a = Conv (x, fw) b = PRelu (a, half) y = Conv (b, fw)", "F6: comparisons, Softplus and Sin do not fuse"),
    Experiment("Q, DQ, AveragePool 3x3, Q", f"a = t.conv (x, s) q = t.pair (a, t) p = AveragePool {POOL} (q) y = t.conv (p, t)", "R17"),
    Experiment("Q, DQ, AveragePool 5x5, Q", "a = t.conv (x, s) q = t.pair (a, t) p = AveragePool <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (q) y = t.conv (p, u)", "R17: not in INT8"),
    Experiment("Q, DQ, AveragePool 3x3 stride 2, Q", "a = t.conv (x, s) q = t.pair (a, t) p = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (q) y = t.conv (p, u)", "R17: not in INT8", (IMAGE, "float[1,4,8,8]")),
    Experiment("Q, DQ, AveragePool 2x2 stride 2, Q", "a = t.conv (x, s) q = t.pair (a, t) p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (q) y = t.conv (p, u)", "R17: not in INT8", (IMAGE, "float[1,4,8,8]")),
    Experiment("Sin, MaxPool, Q, Conv", f"a = Sin (x) p = MaxPool {POOL} (a) y = t.conv (p, s)", "R10: the Q runs before the MaxPool"),
    Experiment("Conv, GlobalAveragePool, Q, Conv", "a = t.conv (x, s) p = GlobalAveragePool (a) y = t.conv (p, t)", "the Q runs in the kernel of the 1x1 product: not forecast", (IMAGE, "float[1,4,1,1]")),
)  # fmt: skip


def model_of(experiment: Experiment) -> onnx.ModelProto:
    """The network of an experiment."""
    read, made = experiment.types
    head = '<ir_version: 10, opset_import: ["" : 20, "t" : 1]>'
    text = f"{head} g ({read} x) => ({made} y) <{CONSTANTS}> {{ {experiment.nodes} }} {FUNCTIONS}"
    return onnx.inliner.inline_local_functions(onnx.parser.parse_model(text))


def said(layer: Layer) -> str:
    """A kernel in words: what it is, and what it reads and writes."""
    found = KERNEL.match(layer.name)
    kind = found[1] if found is not None else layer.kind
    read, made = ("+".join(t.precision for t in side) for side in (layer.inputs, layer.outputs))
    return f"`{kind}` {read} → {made}"


def main(words: Sequence[str]) -> None:
    """Prints a Markdown table."""
    print("| construct | kernels | rule |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for experiment in EXPERIMENTS:
            if words and not any(word in experiment.name for word in words):
                continue
            file = Path(folder) / "m.onnx"
            onnx.save(model_of(experiment), file)
            try:
                kernels = "; ".join(said(x) for x in built(file, "tensorrt-rtx", Build()).working)
            except EngineError as error:
                kernels = f"refused: {str(error)[:120]}"
            print(f"| {experiment.name} | {kernels} | {experiment.rule} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
