"""`Preprocess`: how a picture becomes the input of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError, guess
from .form import Input

FITS = {
    "stretch": "stretched to",
    "crop": "shorter side resized, center cropped to",
    "letterbox": "resized with its proportions and padded to",
}
"""How a picture gets the size of the input; with the words for it."""
MARGIN = 256 / 224
"""With `crop`, the shorter side is this many times the size before the center is cut out, as torchvision and Keras
evaluate ImageNet networks: 256 for 224."""
ORDERS = {"rgb": 3, "bgr": 3, "gray": 1}
"""Orders of the channels, with their number."""


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the input of a network: fitted to the size, channels ordered, then
    (pixel * scale - mean) / std with pixels from 0 to 255.

    Attributes:
        size: (height, width) in pixels; None: that of the network's input.
        fit: a key of `FITS`.
        layout: "nchw" or "nhwc"; "": that of the network's input.
        order: a key of `ORDERS`; "": gray for an input with one channel, else rgb.
        scale: factor of the pixels.
        mean, std: one number, or one for each channel in the order of the channels.
        pad: the pixel value around a letterboxed picture.
    """

    size: tuple[int, int] | None = None
    fit: str = "stretch"
    layout: str = ""
    order: str = ""
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    pad: int = 114

    @classmethod
    def parse(cls, text: str) -> Preprocess:
        """Reads `--preprocess`: a preset, entries such as size=224x320, or a preset and entries that replace its own.

        Raises:
            ModelError: a preset or entry is unknown, or its value is wrong.
        """
        first, *rest = [part.strip() for part in text.split(",")]
        if "=" in first:
            base, rest = cls(), [first, *rest]
        elif first in PRESETS:
            base = PRESETS[first]
        else:
            known = ", ".join(PRESETS)
            raise ModelError(f"--preprocess: there is no preset {first!r}{guess(first, PRESETS)}; presets: {known}")
        given = dict(_entry(part) for part in rest if part)
        if given.get("order") == "bgr":  # presets list their numbers for rgb
            base = replace(base, mean=base.mean[::-1], std=base.std[::-1])
        return replace(base, **given)

    def of(self, form: Input) -> Preprocess:
        """The same with size, layout and order of a network's input where they are not given.

        Raises:
            ModelError: the input is not a picture, has another size, or its size is dynamic and none is given.
        """
        where = f"input {form.name!r} ({form.text})"
        if len(form.dims) != 4:
            raise ModelError(f"{where} is not a batch of pictures: give .npz files or a function")
        layout = self.layout or ("nhwc" if form.dims[3] in (1, 3) and form.dims[1] not in (1, 3) else "nchw")
        channels, height, width = form.dims[1:] if layout == "nchw" else (form.dims[3], *form.dims[1:3])
        size = self.size or ((height, width) if height and width else None)
        if size is None:
            raise ModelError(f"{where} has a dynamic size: add it to --preprocess, as in size=640 or size=480x640")
        order = self.order or ("gray" if channels == 1 else "rgb")
        found = replace(self, size=size, layout=layout, order=order)
        wanted = (channels or ORDERS[order], height or size[0], width or size[1])
        if wanted != (ORDERS[order], *size):
            raise ModelError(f"{where} does not take {found.text}: change layout, order or size in --preprocess")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, ORDERS[order]):
                raise ModelError(f"--preprocess: {name} has {len(getattr(self, name))} values for {order} pictures")
        return found

    @property
    def text(self) -> str:
        """What is done, for people."""
        size = "the input's size" if self.size is None else f"{self.size[0]}x{self.size[1]}"
        padded = f" with {self.pad}" if self.fit == "letterbox" else ""
        numbers = [":".join(f"{v:g}" for v in values) for values in (self.mean, self.std)]
        parts = [
            f"{FITS[self.fit]} {size}{padded}",
            self.order,
            self.layout,
            f"(pixel * {self.scale:.6g} - {numbers[0]})",
        ]
        return ", ".join(filter(None, parts)) + f" / {numbers[1]}"

    def array(self, picture: Any) -> np.ndarray:
        """The input for one picture, float32 with a batch of one.

        Args:
            picture: a `PIL.Image.Image`.
        """
        return self.scaled(self.pixels(picture))

    def pixels(self, picture: Any) -> NDArray[np.uint8]:
        """The pixels of one picture in the size of the input: [height, width, 1 or 3], gray or RGB.

        Args:
            picture: a `PIL.Image.Image`.
        """
        assert self.size is not None
        picture = picture.convert("L" if self.order == "gray" else "RGB")
        return np.asarray(_FITTED[self.fit](picture, *self.size, self.pad), np.uint8).reshape(*self.size, -1)

    def scaled(self, pixels: NDArray[np.uint8]) -> np.ndarray:
        """The input for the pixels of a picture, float32 with a batch of one."""
        real = pixels.astype(np.float32)
        if self.order == "bgr":
            real = real[..., ::-1]
        made = (real * np.float32(self.scale) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(made.transpose(2, 0, 1) if self.layout == "nchw" else made)[None]


PRESETS: Mapping[str, Preprocess] = {
    "imagenet": Preprocess(fit="crop", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "imagenet-tf": Preprocess(fit="crop", scale=1 / 127.5, mean=(1.0,)),
    "yolo": Preprocess(fit="letterbox", scale=1 / 255),
    "unit": Preprocess(scale=1 / 255),
    "raw": Preprocess(),
}
"""Presets by name: torchvision's ImageNet networks; TensorFlow's (-1 to 1); YOLO detectors; 0 to 1; 0 to 255."""


def _stretched(picture: Any, height: int, width: int, pad: int) -> Any:
    return picture.resize((width, height), _BILINEAR)


def _cropped(picture: Any, height: int, width: int, pad: int) -> Any:
    factor = max(height * MARGIN / picture.height, width * MARGIN / picture.width)
    wide, high = max(width, round(picture.width * factor)), max(height, round(picture.height * factor))
    left, top = (wide - width) // 2, (high - height) // 2
    return picture.resize((wide, high), _BILINEAR).crop((left, top, left + width, top + height))


def _letterboxed(picture: Any, height: int, width: int, pad: int) -> Any:
    factor = min(height / picture.height, width / picture.width)
    wide, high = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    left, top = (width - wide) // 2, (height - high) // 2
    # A larger crop than the picture is filled with zeros, so the margin is set afterwards.
    whole = np.array(picture.resize((wide, high), _BILINEAR).crop((-left, -top, width - left, height - top)))
    inside = np.zeros((height, width), bool)
    inside[top : top + high, left : left + wide] = True
    whole[~inside] = pad
    return whole


_BILINEAR = 2
"""PIL.Image.Resampling.BILINEAR."""
_FITTED = {"stretch": _stretched, "crop": _cropped, "letterbox": _letterboxed}


def _entry(part: str) -> tuple[str, Any]:
    name, _, value = (word.strip() for word in part.partition("="))
    known = [f.name for f in fields(Preprocess)]
    if name not in known or not value:
        raise ModelError(f"--preprocess: {part!r}{guess(name, known)}; write NAME=VALUE, with {', '.join(known)}")
    try:
        return name, _VALUES[name](value)
    except (ValueError, ZeroDivisionError, KeyError) as error:
        raise ModelError(f"--preprocess: {part!r} is wrong; write {_EXAMPLES[name]}") from error


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    height, width = sides if len(sides) == 2 else (*sides, *sides)
    if min(height, width) < 1:
        raise ValueError(text)
    return height, width


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    value = float(above) / float(below or 1)
    if not np.isfinite(value):
        raise ValueError(text)
    return value


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(":"))


def _divisors(text: str) -> tuple[float, ...]:
    found = _numbers(text)
    if 0 in found:
        raise ValueError(text)
    return found


def _pixel(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 255:
        raise ValueError(text)
    return value


def _one_of(*known: str) -> Any:
    return {word: word for word in known}.__getitem__


_VALUES: Mapping[str, Any] = {
    "size": _size,
    "fit": _one_of(*FITS),
    "layout": _one_of("nchw", "nhwc"),
    "order": _one_of(*ORDERS),
    "scale": _number,
    "mean": _numbers,
    "std": _divisors,
    "pad": _pixel,
}
_EXAMPLES: Mapping[str, str] = {
    "size": "size=224 or size=HEIGHTxWIDTH",
    "fit": f"fit= one of {', '.join(FITS)}",
    "layout": "layout=nchw or layout=nhwc",
    "order": f"order= one of {', '.join(ORDERS)}",
    "scale": "scale=1/255, a number or a fraction",
    "mean": "mean=0.485:0.456:0.406, one number or one for each channel",
    "std": "std=0.229:0.224:0.225, numbers other than zero",
    "pad": "pad=114, a number from 0 to 255",
}
