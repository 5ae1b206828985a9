"""Whole networks for comparisons with a real TensorRT, from what every checkout has: no download, no training.

Five are published: the package onnx contains their graphs without weights (`onnx/backend/test/data/light`), which get
random ones here. Two are exports as NVIDIA makes them, two are samples, one is a vision transformer of two blocks.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, shape_inference, version_converter

import qdqgraph
from tests.support import torchscript

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
TARGET = "trt-rtx"
YOLO = 64
"""Height and width of the input of the YOLOv5s sample: its graph is the same for every size."""
TRANSFORMER = """
<ir_version: 10, opset_import: ["" : 20]>
vit (float[1,3,32,32] images) => (float[1,10] scores)
<int64[3] rows = {1, 64, 16}, int64[4] heads = {1, 16, 4, 16}, int64[3] joined = {1, 16, 64}, float root = {0.25},
 float half = {0.5}, float one = {1}, float two = {1.414}>
{
    patches = Conv <kernel_shape = [8, 8], strides = [8, 8]> (images, w_patch, b)
    flat = Reshape (patches, rows)
    tokens = Transpose <perm = [0, 2, 1]> (flat)
    x0 = Add (tokens, places)
    BLOCKS
    mean = ReduceMean <keepdims = 0> (x2, one_axis)
    scores = Gemm (mean, w_last, b_last)
}
"""
BLOCK = """
    n@ = LayerNormalization (x@, g, b)
    q0@ = MatMul (n@, wq@) q1@ = Add (q0@, b) q2@ = Reshape (q1@, heads) q@ = Transpose <perm = [0, 2, 1, 3]> (q2@)
    k0@ = MatMul (n@, wk@) k1@ = Add (k0@, b) k2@ = Reshape (k1@, heads) k@ = Transpose <perm = [0, 2, 3, 1]> (k2@)
    v0@ = MatMul (n@, wv@) v1@ = Add (v0@, b) v2@ = Reshape (v1@, heads) v@ = Transpose <perm = [0, 2, 1, 3]> (v2@)
    s0@ = MatMul (q@, k@) s1@ = Mul (s0@, root) s@ = Softmax (s1@)
    a0@ = MatMul (s@, v@) a1@ = Transpose <perm = [0, 2, 1, 3]> (a0@) a2@ = Reshape (a1@, joined)
    a3@ = MatMul (a2@, wo@) a4@ = Add (a3@, b) a@ = Add (x@, a4@)
    m@ = LayerNormalization (a@, g, b)
    f0@ = MatMul (m@, wf@) f1@ = Add (f0@, bf) e0@ = Div (f1@, two) e1@ = Erf (e0@) e2@ = Add (e1@, one)
    e3@ = Mul (f1@, e2@) e@ = Mul (e3@, half)
    o0@ = MatMul (e@, wg@) o1@ = Add (o0@, b) x+ = Add (a@, o1@)
"""


def _random(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """The model with random float32 initializers: positive ones for vectors, which are norms and biases."""
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = draw.uniform(0.5, 1.5, shape) if len(shape) < 2 else draw.normal(0, 0.1, shape)
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def transformer() -> onnx.ModelProto:
    """A vision transformer of two blocks with four heads, in float32."""
    blocks = "".join(BLOCK.replace("@", str(i)).replace("+", str(i + 1)) for i in range(2))
    model = onnx.parser.parse_model(TRANSFORMER.replace("BLOCKS", blocks))
    names = {f"w{part}{i}": (64, 64) for i in range(2) for part in "qkvo"}
    names |= {f"wf{i}": (64, 128) for i in range(2)} | {f"wg{i}": (128, 64) for i in range(2)}
    rest = {"w_patch": (64, 3, 8, 8), "places": (1, 16, 64), "b": (64,), "bf": (128,), "g": (64,)}
    rest |= {"w_last": (64, 10), "b_last": (10,)}
    model = _random(model, {**names, **rest})
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one_axis"))
    return shape_inference.infer_shapes(model)


def light(name: str) -> onnx.ModelProto:
    """A published network of the package onnx, in float32; the test skips if this version does not contain it."""
    path = LIGHT / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip(f"this version of onnx does not contain {path.name}")
    model = onnx.load(path)
    graph = model.graph
    sizes = {t.name: tuple(numpy_helper.to_array(t).tolist()) for t in graph.initializer}
    filled = {n.output[0]: sizes[n.input[0]] for n in graph.node if n.op_type == "ConstantOfShape"}
    nodes = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    read = {name for n in nodes for name in n.input}
    kept = [t for t in graph.initializer if t.name in read]
    inputs = [i for i in graph.input if i.name in read - sizes.keys()]
    for field, values in ((graph.node, nodes), (graph.initializer, kept), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    model.ir_version = 8
    return shape_inference.infer_shapes(version_converter.convert_version(_random(model, filled), 13))


def sample(name: str) -> onnx.ModelProto:
    """A float network of `samples/networks.py` without its norms; the test skips without torch."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("pytorch_quantization")
    from samples import networks, quantize

    small = name == "digits"
    outputs = networks.Digits.outputs if small else networks.SAMPLES[name].outputs
    network = networks.Digits().eval() if small else networks.build(name, YOLO)
    image = torch.zeros(1, 1, 32, 32) if small else torch.zeros(1, 3, YOLO, YOLO)
    networks.fold_norms(network)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.onnx"
        quantize.export(network, image, file, outputs)
        return onnx.load(file)


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float network as `qdqgraph quantize` writes it, with a random range for each tensor."""
    draw = np.random.default_rng(1)
    names = [i.name for i in model.graph.input] + [name for n in model.graph.node for name in n.output if name]
    table = [f"{name}: {struct.pack('>f', draw.uniform(0.02, 0.03)).hex()}" for name in names]
    with tempfile.TemporaryDirectory() as folder:
        ranges = Path(folder) / "ranges.cache"
        ranges.write_text("\n".join(["TRT-8601-EntropyCalibration2", *table]))
        return qdqgraph.quantize(model, ranges=ranges, target=TARGET).model


WHOLE: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "SqueezeNet": lambda: quantized(light("squeezenet")),
    "ShuffleNet": lambda: quantized(light("shufflenet")),
    "Inception v2": lambda: quantized(light("inception_v2")),
    "ResNet-50": lambda: quantized(light("resnet50")),
    "DenseNet-121": lambda: quantized(light("densenet121")),
    "ResNet-18, QAT": partial(torchscript.resnet18, residual=True),
    "MobileNet v2, QAT": partial(torchscript.mobilenet_v2, residual=True),
    "digits sample": lambda: quantized(sample("digits")),
    "YOLOv5s sample": lambda: quantized(sample("yolov5s")),
    "vision transformer": lambda: quantized(transformer()),
}
"""By name, what builds the quantized network."""
