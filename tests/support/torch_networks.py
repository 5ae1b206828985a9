"""Small PyTorch networks and what tests of the PyTorch side ask of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn
from torch.nn import functional

from qdqgraph.torch import Config, Operator, calibrate, link, quantize
from qdqgraph.torch.quantizer.quantizer import quantizer_paths

EXPORTERS = [False, True]
"""The values of `dynamo`."""
X = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
"""An input of every network here."""


class Bottleneck(nn.Module):
    """As mmdetection writes it: an inner function, checkpointed where asked, `out += identity`, a branch on the way."""

    def __init__(self, downsample: bool, reentrant: bool | None) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.downsample = nn.Conv2d(4, 4, 1) if downsample else None
        self.relu = nn.ReLU(inplace=True)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        def inner(x: Tensor) -> Tensor:
            identity = x
            out: Tensor = self.conv2(self.relu(self.conv1(x)))
            if self.downsample is not None:
                identity = self.downsample(x)
            out += identity
            return out

        if self.reentrant is not None and x.requires_grad:
            out = checkpointing.checkpoint(inner, x, use_reentrant=self.reentrant)
        else:
            out = inner(x)
        result: Tensor = self.relu(out)
        return result


def residual(reentrant: bool | None = None) -> nn.Module:
    """Two residual blocks, always with the same weights."""
    torch.manual_seed(0)
    return nn.Sequential(Bottleneck(False, reentrant), Bottleneck(True, reentrant))


class Dense(nn.Module):
    """Concat, BatchNorm, ReLU, convolution: the Concat has no quantizer; and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        c = self.c(functional.relu(self.norm(torch.cat([a, b], 1))))
        out: Tensor = self.b(c @ a.transpose(2, 3))
        return out


def dynamo_or_skip(dynamo: bool) -> None:
    """Skips the test where torch.export has nothing to write ONNX with."""
    if dynamo:
        pytest.importorskip("onnxscript")


def groups(model: nn.Module) -> set[frozenset[str]]:
    """The paths that share a quantizer, for each that has several."""
    found: dict[int, set[str]] = {}
    for path, quantizer in quantizer_paths(model).items():
        found.setdefault(id(quantizer), set()).add(path)
    return {frozenset(g) for g in found.values() if len(g) > 1}


def answers(model: onnx.ModelProto, x: Tensor) -> np.ndarray:
    """The first output in ONNX Runtime, with its optimizations off."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return found


def linked() -> nn.Module:
    """A residual network, quantized, linked and calibrated."""
    model = residual()
    quantize(model, Config(operators=(Operator("add", "both", modules="1"),)), X)
    link(model, X)
    calibrate(model, [X], method="percentile")
    return model
