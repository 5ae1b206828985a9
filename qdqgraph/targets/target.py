"""`Target`: what one generation of TensorRT takes. The facts are data, one file a generation, each with its source."""

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
    """A generation of TensorRT.

    Attributes:
        name: "trt-10"; title: for people.
        opset: the newest version of the standard operator set that its parser documents.
        strong: networks are strongly typed: every layer runs in the types that the file gives it.
        half: it takes FP16 around INT8 from the file; else FP16 is the builder's choice alone.
        deconvolution_axis: the axis of per-channel scales of ConvTranspose weights.
    """

    name: str
    title: str
    opset: int
    strong: bool
    half: bool
    deconvolution_axis: int

    @staticmethod
    def named(name: str = DEFAULT) -> Target:
        """The target of that name.

        Raises:
            ModelError: there is none; the message lists the names.
        """
        if name not in NAMES:
            raise ModelError(f"no target {name!r}; there are {', '.join(NAMES)}")
        return _read(name)


@cache
def _read(name: str) -> Target:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    axis = data["deconvolution"]["axis"]
    return Target(name, data["title"], data["opset"]["most"], data["typing"]["strong"], data["half"]["taken"], axis)
