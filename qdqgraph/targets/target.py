"""`Target`: what one generation of TensorRT accepts, read from one data file per generation with a source per entry."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import ModelError

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(p.stem for p in FOLDER.glob("*.toml")))
DEFAULT = "trt-10"


@dataclass(frozen=True)
class Target:
    """A generation of TensorRT. Each attribute is an entry of its data file, which names the source.

    Attributes:
        name: identifier, such as "trt-10".
        title: name for messages, such as "TensorRT 10.2 to 10.16".
        opset: the newest version of the standard operator set that its parser documents.
        strong: networks are strongly typed: every layer runs in the types of the file.
        fp16: FP16 around INT8 can be given in the file; otherwise the builder alone chooses FP16.
        deconvolution_axis: the axis of per-channel scales of ConvTranspose weights, 0 or 1.
        group_channels: an INT8 convolution with groups needs a multiple of this number of input channels, and of output
            channels, in each group.
        depthwise_channels: a depthwise INT8 convolution, with one input channel in each group, needs a multiple of this
            number of channels instead.
        weights_as_output: the integers of a layer's weights may be a network output too.
    """

    name: str
    title: str
    opset: int
    strong: bool
    fp16: bool
    deconvolution_axis: int
    group_channels: int
    depthwise_channels: int
    weights_as_output: bool

    @staticmethod
    def named(name: str = DEFAULT) -> Target:
        """Returns the target of that name.

        Raises:
            ModelError: the name is unknown; the message lists the known names.
        """
        if name not in NAMES:
            raise ModelError(f"unknown target {name!r}; known targets: {', '.join(NAMES)}")
        return _read(name)


@cache
def _read(name: str) -> Target:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return Target(
        name,
        data["title"],
        data["opset"]["newest"],
        data["typing"]["strong"],
        data["fp16"]["accepted"],
        data["deconvolution"]["axis"],
        data["groups"]["channels"],
        data["groups"]["depthwise"],
        data["weights"]["as_output"],
    )
