"""Rendered pages of text for networks that tell how a page is turned. Needs Pillow."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

TURNS = (0, 90, 180, 270)
"""PP-LCNet's classes: the rotation of a page in degrees."""
WORDS = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8").split()
"""The words of rendered pages."""


def page(seed: int) -> np.ndarray:
    """A rendered page of text, upright, [H, W, 3] in 0 to 255."""
    from PIL import Image, ImageDraw, ImageFont

    chance = random.Random(seed)
    height = chance.randint(14, 24)
    paper = Image.new("RGB", (480, 640), (chance.randint(225, 255),) * 3)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(height)
    for top in range(20, 600, int(1.5 * height)):
        line = " ".join(chance.choices(WORDS, k=chance.randint(4, 9)))
        draw.text((24, top), line, fill=(chance.randint(0, 60),) * 3, font=font)
    return np.asarray(paper)
