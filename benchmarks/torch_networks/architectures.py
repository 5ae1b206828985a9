"""Architectures of timm and Ultralytics with random weights: structure and scales, not accuracy.

Needs timm and ultralytics (AGPL: an external input, never a dependency).
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NAMES = (
    *("tm:resnet18", "ul:yolov5n", "ul:yolov8n", "ul:yolo11n", "ul:yolov9t", "ul:yolov10n"),
    *("tm:mobilenetv2_100", "tm:hrnet_w18_small", "tm:densenet121", "tm:resnet50d", "tm:seresnet18"),
)
"""The networks measured by default; prefix tm: timm, ul: Ultralytics."""


def size(name: str) -> int:
    """Height and width of the input."""
    return 320 if name.startswith("ul:") else 224


def image(side: int, seed: int) -> Tensor:
    """A smooth random image, [1, 3, side, side] in -1 to 1."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 16, 16, generator=generator)
    return functional.interpolate(small, size=(side, side), mode="bilinear") * 2 - 1


def network(name: str, edge: int = 0) -> nn.Module:
    """The float network in eval mode with BatchNorm statistics from data; Ultralytics networks in export form.

    Args:
        edge: height and width of the input; 0: those of `size`.
    """
    torch.manual_seed(0)
    family, _, architecture = name.partition(":")
    model = _timm(architecture) if family == "tm" else _ultralytics(architecture)
    _settle(model.eval().float(), edge or size(name), batch=2 if edge else 1)
    if family == "ul":
        fuse: Any = model.fuse
        fuse(verbose=False)
        module: Any
        for module in model.modules():
            if hasattr(module, "export"):
                module.export, module.format = True, "onnx"
    return model


def _timm(architecture: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=100)
    return model


def _ultralytics(architecture: str) -> nn.Module:
    from ultralytics import YOLO

    with contextlib.redirect_stdout(io.StringIO()):
        model: nn.Module = YOLO(f"{architecture}.yaml").model
    return model


def _settle(model: nn.Module, side: int, batch: int) -> None:
    """Sets random BatchNorm gains and measured statistics, so that activations neither vanish nor explode. A norm after
    a global average needs a batch of more than one image."""
    generator = torch.Generator().manual_seed(1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=generator)
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for seed in range(100, 104):
            model(torch.cat([image(side, seed + 10 * i) for i in range(batch)]))
    model.eval()
