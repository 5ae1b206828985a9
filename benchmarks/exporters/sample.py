"""Our own samples as float ONNX files, for every exporter alike. Needs qdqgraph[ort,torch] and mlxtend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from samples import demo, digits, networks, quantize

from .networks import NETWORKS

NAMES = tuple(name for name, network in NETWORKS.items() if network.path and not network.package)
EPOCHS = 16
"""Of training the digits, as in the demo."""
DIGITS = 64
"""Test images of digits that calibrate and measure."""


def write(name: str, folder: Path) -> None:
    """Writes NAME.onnx, BatchNorm folded, and for the digits, which are trained here, their images as digits.npy."""
    batch, channels, height, width = NETWORKS[name].shape
    if name == "digits":
        train, test = digits.load()
        torch.manual_seed(0)
        network: torch.nn.Module = networks.Digits()
        demo.train(network, train, EPOCHS)
        np.save(folder / "digits.npy", test.images[:DIGITS, None])
        outputs: tuple[str, ...] = networks.Digits.outputs
    else:
        network, outputs = networks.build(name, height), networks.SAMPLES[name].outputs
    networks.fold_norms(network)
    quantize.export(network, torch.zeros(batch, channels, height, width), folder / NETWORKS[name].path, outputs)
