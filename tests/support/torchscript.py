"""Networks as pytorch-quantization exported them for NVIDIA's example engines: the same nodes, names and numbers.

Older versions of PyTorch name a node by its operator and a number that counts every node, so a graph whose nodes are written
in the same order has the names of those engines. Channels are fewer; structure is all that counts here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Export:
    """A graph that grows node by node; every node takes the next number."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.number = 0
        self.shape = shape
        self.scales: dict[str, float] = {}

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{self.number}"
        out = f"onnx::{name}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=name, **attributes))
        self.number += 1
        return out

    def constant(self, value: np.ndarray) -> str:
        return self.node("Constant", value=numpy_helper.from_array(value))

    def pair(self, x: str, more: int = 0) -> str:
        """A quantizer on an activation; its scale is the tensor's, as one amax is measured for it. `more` Constants."""
        scale = self.scales.setdefault(x, 0.01 * (1 + len(self.scales)))
        s, z = self.constant(np.array(scale, np.float32)), self.constant(np.array(0, np.int8))
        self.number += more
        q = self.node("QuantizeLinear", x, s, z)
        return self.node("DequantizeLinear", q, s, z)

    def weight(self, name: str, shape: tuple[int, ...], quantized: bool = True) -> str:
        self.weights.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
        if not quantized:
            return name
        s = self.constant(np.full(shape[0], 0.01, np.float32))
        z = self.constant(np.zeros(shape[0], np.int8))
        self.number += 1
        q = self.node("QuantizeLinear", name, s, z, axis=0)
        return self.node("DequantizeLinear", q, s, z, axis=0)

    def conv(self, x: str, name: str, shape: tuple[int, ...], stride: int = 1, group: int = 1) -> str:
        """Conv and BatchNormalization."""
        d = self.pair(x)
        w = self.weight(f"{name}.weight", shape)
        pad = shape[-1] // 2
        y = self.node("Conv", d, w, kernel_shape=shape[2:], pads=[pad] * 4, strides=[stride] * 2, group=group)
        norm = [self.weight(f"{name}.bn{i}", (shape[0],), quantized=False) for i in range(4)]
        return self.node("BatchNormalization", y, *norm)

    def classify(self, x: str, channels: int, name: str) -> onnx.ModelProto:
        """GlobalAveragePool, Flatten, Gemm; the finished model."""
        pooled = self.node("GlobalAveragePool", x)
        flat = self.node("Flatten", pooled)
        d = self.pair(flat)
        w = self.weight(f"{name}.weight", (10, channels))
        bias = self.weight(f"{name}.bias", (10,), quantized=False)
        out = self.node("Gemm", d, w, bias, transB=1)
        ends = [("input.1", self.shape), (out, (self.shape[0], 10))]
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n, dims in ends]
        graph = helper.make_graph(self.nodes, "main", infos[:1], infos[1:], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def resnet18(*, residual: bool) -> onnx.ModelProto:
    """NVIDIA's ResNet-18 after QAT; `residual`: with quantizers on the skips."""
    net, channels = Export((32, 3, 224, 224)), 8
    x = net.conv("input.1", "conv1", (channels, 3, 7, 7), 2)
    x = net.node("Relu", x)
    x = net.node("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    for stage in range(1, 5):
        wide = 8 << (stage - 1)
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = net.conv(x, f"{name}.conv1", (wide, channels, 3, 3), stride)
            y = net.conv(net.node("Relu", y), f"{name}.conv2", (wide, wide, 3, 3))
            skip = x
            if stride == 2:
                skip = net.conv(x, f"{name}.downsample.0", (wide, channels, 1, 1), 2)
            if residual:
                skip = net.pair(skip, more=2)
            x, channels = net.node("Relu", net.node("Add", y, skip)), wide
    return net.classify(x, channels, "fc")


MOBILE = ((1, 4, 1, 1), (6, 6, 2, 2), (6, 8, 3, 2), (6, 16, 4, 2), (6, 24, 3, 1), (6, 40, 3, 2), (6, 80, 1, 1))
"""Expansion, channels, blocks and stride of MobileNet's stages; a quarter of its channels."""


def mobilenet_v2(*, residual: bool) -> onnx.ModelProto:
    """NVIDIA's MobileNet v2 after QAT."""
    net = Export((1, 3, 224, 224))

    def clip(x: str) -> str:
        low, high = net.constant(np.array(0, np.float32)), net.constant(np.array(6, np.float32))
        return net.node("Clip", x, low, high)

    x, channels = clip(net.conv("input.1", "features.0.0", (8, 3, 3, 3), 2)), 8
    index = 1
    for expand, wide, count, stride in MOBILE:
        for block in range(count):
            name, step, inner = f"features.{index}.conv", stride if block == 0 else 1, channels * expand
            skip = step == 1 and channels == wide
            y, side = x, net.pair(x, more=2) if skip and residual else x
            if expand > 1:
                y = clip(net.conv(y, f"{name}.0.0", (inner, channels, 1, 1)))
            y = clip(net.conv(y, f"{name}.{int(expand > 1)}.0", (inner, 1, 3, 3), step, inner))
            y = net.conv(y, f"{name}.{1 + (expand > 1)}", (wide, inner, 1, 1))
            if skip:
                y = net.node("Add", side, y)
            x, channels, index = y, wide, index + 1
    x = clip(net.conv(x, "features.18.0", (160, channels, 1, 1)))
    return net.classify(x, 160, "classifier.1")
