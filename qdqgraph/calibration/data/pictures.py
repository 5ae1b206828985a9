"""Pictures as inputs, read with Pillow."""

from __future__ import annotations

import warnings
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
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(path) as picture:
                return preprocess.array(picture)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        limit = f"more than {PIL.Image.MAX_IMAGE_PIXELS:,} pixels, the limit of Pillow"
        raise ModelError(f"{path}: {limit}: scale it down, or remove it") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ModelError(f"{path}: not a picture, or damaged ({error}): remove it") from error
