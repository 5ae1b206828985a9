"""Pictures as inputs, read with Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import ModelError
from .preprocess import Preprocess

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
"""Endings of picture files."""


def refuse_without_pillow(folder: Path) -> None:
    """Refuses pictures where Pillow is not installed.

    Raises:
        ModelError: with what to install.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{folder}: reading pictures needs Pillow: pip install qdqgraph[pictures]") from error


def read_picture(path: Path, preprocess: Preprocess) -> np.ndarray:
    """The input for a picture, float32 with a batch of one.

    Raises:
        ModelError: the file is not a picture, or is damaged.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            return preprocess.array(picture)
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise ModelError(f"{path}: not a picture, or damaged ({error}): remove it") from error
