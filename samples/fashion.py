"""Fashion-MNIST from Debian's package dataset-fashion-mnist: 70,000 labelled images of clothing, 28 x 28."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samples.digits import PAD, Split

FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where the package installs its files."""
HEADER = {"images": 16, "labels": 8}
"""Bytes of the file header, in the format of http://yann.lecun.com/exdb/mnist."""


def load(folder: Path = FOLDER) -> tuple[Split, Split]:
    """60,000 images for training and calibration, 10,000 for testing.

    Raises:
        FileNotFoundError: the files are missing; the message says how to get them.
    """
    return _part(folder, "train"), _part(folder, "t10k")


def _part(folder: Path, name: str) -> Split:
    pixels = _numbers(folder / f"{name}-images-idx3-ubyte.gz", "images").reshape(-1, 1, 28, 28)
    images: NDArray[np.float32] = np.pad(pixels.astype(np.float32) / 255, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    return Split(images, _numbers(folder / f"{name}-labels-idx1-ubyte.gz", "labels").astype(np.int64))


def _numbers(file: Path, kind: str) -> NDArray[np.uint8]:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing. Run `make qat`, which gets the images, or apt-get install dataset-fashion-mnist. "
            "Without root: apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb FOLDER, then "
            "--data FOLDER/usr/share/datasets/fashion-mnist"
        )
    with gzip.open(file) as packed:
        return np.frombuffer(packed.read(), np.uint8, offset=HEADER[kind])
