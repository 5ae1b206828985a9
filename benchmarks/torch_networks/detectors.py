"""Functions for `qdqgraph torch finetune` on detectors: Ultralytics networks with random weights, synthetic boxes and
Ultralytics' own loss, and CenterFace through onnx2torch with photographs.

Needs ultralytics (AGPL: an external input, never a dependency), and for CenterFace onnx2torch and pillow. CenterFace's
file and the folder of photographs are named by the environment variables CENTERFACE and PHOTOS.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SIZE, BATCH, BATCHES = 64, 4, 4
FACE_SIZE = 128


def yolov8n() -> nn.Module:
    """[N, 3, H, W] → Ultralytics' outputs."""
    return _ultralytics("yolov8n")


def yolo26n() -> nn.Module:
    """[N, 3, H, W] → Ultralytics' outputs."""
    return _ultralytics("yolo26n")


def _ultralytics(name: str) -> nn.Module:
    """A network with random weights, and in its BatchNorms the statistics of the data: without them, the activations of
    a random network vanish."""
    from ultralytics import YOLO
    from ultralytics.utils import DEFAULT_CFG

    torch.manual_seed(0)
    model: Any = YOLO(f"{name}.yaml").model
    model.args = DEFAULT_CFG
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        for batch in boxes():
            model(batch["img"])
    found: nn.Module = model.eval()
    return found


def boxes() -> list[dict[str, Tensor]]:
    """Pictures with two bright rectangles each, and these as boxes of Ultralytics' form."""
    made = torch.Generator().manual_seed(1)
    found = []
    for _ in range(BATCHES):
        pictures = torch.rand(BATCH, 3, SIZE, SIZE, generator=made) * 0.3
        count = 2 * BATCH
        centres, sizes = torch.rand(count, 2, generator=made), torch.rand(count, 2, generator=made)
        where = torch.cat([0.3 + 0.4 * centres, 0.2 + 0.3 * sizes], 1)
        index = torch.arange(BATCH).repeat_interleave(2)
        for i, box in zip(index, where, strict=True):
            x, y, w, h = (int(v) for v in box * SIZE)
            pictures[i, :, y - h // 2 : y + h // 2, x - w // 2 : x + w // 2] += 0.6
        kinds = torch.randint(0, 3, (count, 1), generator=made).float()
        found.append({"img": pictures, "cls": kinds, "bboxes": where, "batch_idx": index.float()})
    return found


def ultralytics_loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Ultralytics' loss of a batch, a scalar."""
    total: Tensor = model.loss(batch)[0].sum()
    return total


def centerface() -> nn.Module:
    """[2, 3, 128, 128] → heatmap, scale, offset, landmarks."""
    import onnx
    import onnx2torch

    model = onnx.load(os.environ["CENTERFACE"])
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    found: nn.Module = onnx2torch.convert(model).eval()
    return found


def photographs() -> list[Tensor]:
    """Six batches of two photographs."""
    return _photographs(0, 12)


def fidelity(model: nn.Module) -> float:
    """SQNR of the outputs against the float network, dB, the mean over outputs, on four other photographs."""
    x, values = torch.cat(_photographs(12, 16)), []
    with torch.no_grad():
        for found, expected in zip(model(x), centerface()(x), strict=True):
            noise = float((found - expected).square().sum())
            values.append(10 * math.log10(float(expected.square().sum()) / max(noise, 1e-20)))
    return float(np.mean(values))


def _photographs(first: int, last: int) -> list[Tensor]:
    from PIL import Image

    files = sorted(Path(os.environ["PHOTOS"]).rglob("*.jpg"))[first:last]
    size = FACE_SIZE, FACE_SIZE
    made = [np.asarray(Image.open(f).convert("RGB").resize(size), np.float32).transpose(2, 0, 1) for f in files]
    return [torch.from_numpy(np.stack(made[i : i + 2])) for i in range(0, len(made), 2)]
