"""Pictures as inputs, read with Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...extras import install_hint
from .preprocess import Preprocess

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
"""Endings of picture files."""
KEPT = 64 << 20
"""Bytes of decoded pictures that are kept: 446 pictures of 224 x 224, or 7 of 1760 x 1760."""


def refuse_without_pillow(folder: Path) -> None:
    """Refuses pictures where Pillow is not installed.

    Raises:
        ModelError: with what to install.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{folder}: reading pictures needs Pillow: {install_hint('pictures')}") from error


def read_picture(path: Path, preprocess: Preprocess) -> np.ndarray:
    """The input for a picture, float32 with a batch of one.

    Raises:
        ModelError: the file is not a picture, or is damaged.
    """
    return preprocess.scaled(_pixels(path, preprocess))


class Pictures:
    """Reads pictures as inputs. A run reads its samples several times; the pixels of the first pictures, up to `KEPT`
    bytes, are decoded once.

    Args:
        preprocess: how pictures become inputs.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess, self._kept = preprocess, dict[Path, NDArray[np.uint8]]()

    def read(self, path: Path) -> np.ndarray:
        """As `read_picture`."""
        pixels = self._kept.get(path)
        if pixels is None:
            pixels = _pixels(path, self._preprocess)
            if pixels.nbytes * (len(self._kept) + 1) <= KEPT:
                self._kept[path] = pixels
        return self._preprocess.scaled(pixels)


def _pixels(path: Path, preprocess: Preprocess) -> NDArray[np.uint8]:
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(path) as picture:
                return preprocess.pixels(picture)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        limit = f"more than {PIL.Image.MAX_IMAGE_PIXELS:,} pixels, the limit of Pillow"
        raise ModelError(f"{path}: {limit}: scale it down, or remove it") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ModelError(f"{path}: not a picture, or damaged ({error}): remove it") from error
