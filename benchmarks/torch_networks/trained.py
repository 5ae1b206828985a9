"""Trained networks from wheels as PyTorch modules, and their calibration and evaluation data.

Needs onnx2torch, onnxslim, pillow and scikit-image.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.exporters.networks import NETWORKS, original, prepared
from benchmarks.pages import TURNS, page

NAMES = ("yolox", "resnet50", "pplcnet")
SMALLEST = 160
"""Smallest side of a photograph in pixels."""


@dataclass(frozen=True)
class Data:
    """Inputs of batch 1 by purpose; labels of the evaluation inputs, if the task has any."""

    calibrate: tuple[Tensor, ...]
    rank: tuple[Tensor, ...]
    judge: tuple[Tensor, ...]
    labels: tuple[int, ...] = ()


def network(name: str, wheels: Path) -> nn.Module:
    """The float network with constant shapes."""
    import onnx2torch
    import onnxslim

    model: nn.Module = onnx2torch.convert(onnxslim.slim(prepared(name, original(name, wheels))))
    return model.eval()


def data(name: str, photos: Path) -> Data:
    """32 inputs for calibration, 4 for ranking layers, and others for evaluation."""
    if name == "pplcnet":
        pages = [page(seed) for seed in range(29)]
        turned = [read(name, np.rot90(p, -k)) for p in pages for k in range(len(TURNS))]
        return Data(tuple(turned[:32]), tuple(turned[32:36]), tuple(turned[36:]), tuple(range(4)) * 20)
    images = [read(name, image) for image in pictures(photos, 52)]
    return Data(tuple(images[:32]), tuple(images[32:36]), tuple(images[36:]))


def pictures(folder: Path, count: int) -> list[np.ndarray]:
    """Photographs from a folder and its subfolders, [H, W, 3] in 0 to 255, sampled by a seed from the sorted names.

    Raises:
        SystemExit: the folder has too few.
    """
    from PIL import Image

    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".jpg", ".png")):
        found.setdefault(path.stem, path)
    chosen = []
    for path in random.Random(0).sample(list(found.values()), len(found)):
        with Image.open(path) as image:
            if min(image.size) >= SMALLEST and image.mode == "RGB" and _varied(image):
                chosen.append(np.asarray(image))
        if len(chosen) == count:
            return chosen
    raise SystemExit(f"{folder}: found {len(chosen)} photographs of at least {SMALLEST} pixels; {count} are needed")


def _varied(image: Any) -> bool:
    """Whether the image is a photograph: drawings have few colours."""
    return len(image.resize((64, 64)).getcolors(64 * 64)) > 2000


def read(name: str, image: np.ndarray) -> Tensor:
    """An image [H, W, 3] preprocessed for the network, batch 1."""
    from skimage.transform import resize

    network = NETWORKS[name]
    if name == "pplcnet":  # center crop of an image whose shorter side has 256 pixels
        edges = np.round(np.array(image.shape[:2]) * 256 / min(image.shape[:2])).astype(int)
        top, left = (edges - np.array(network.shape[2:])) // 2
        pixels = resize(image, edges, anti_aliasing=True)[top : top + 224, left : left + 224]
    else:
        pixels = resize(image, network.shape[2:], anti_aliasing=True)
    pixels = 255.0 * (pixels[..., ::-1] if network.bgr else pixels)
    ready = ((pixels / network.scale - np.array(network.mean)) / np.array(network.std)).astype(np.float32)[None]
    return torch.from_numpy(ready if network.channels_last else np.ascontiguousarray(ready.transpose(0, 3, 1, 2)))


def answers(model: nn.Module, inputs: Sequence[Tensor]) -> list[list[np.ndarray]]:
    """The outputs for each input."""
    with torch.no_grad():
        found = [model(x) for x in inputs]
    return [[o.numpy() for o in (y if isinstance(y, tuple | list) else [y])] for y in found]
