"""Types and functions shared by all engine builders: build settings, input shapes, parser errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import EngineError
from ...graph.graph import Graph
from . import MODES
from .limits import Limits

SPATIAL = 320
"""Default height and width of a dynamic input in pixels: a multiple of 32, as detectors need."""


ERROR = re.compile(r"Error Code \d+: [^(]*\((.+?)\)(?: \[| Error Code|$)")
"""The statement in an error of TensorRT's C++ code: "…: Error Code 4: API Usage Error (statement) [file::function]"."""
LOCATION = re.compile(r"\.? In \w+ at \S+:\d+| \[\S+\.cpp:\S+\]")
"""A place in TensorRT's C++ code: ". In checkType at /_src/optimizer/common/nodeBase.cpp:456"."""


@dataclass(frozen=True)
class Build:
    """The settings of a build.

    Attributes:
        mode: "qdq" (INT8 if the file has Q/DQ), "fp16", or "best" (TensorRT chooses; for models without Q/DQ).
        shapes: the shape of each dynamic input, by name; the default is batch 1 and images of 320 x 320 pixels.
        limits: the limits of time and memory.
        keep: the folder for exports and log; None for a temporary folder or the builder's default.
    """

    mode: str = "qdq"
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    keep: Path | None = None

    def __post_init__(self) -> None:
        """Checks the mode.

        Raises:
            EngineError: the mode is unknown.
        """
        if self.mode not in MODES:
            raise EngineError(f"unknown mode {self.mode!r}; the modes are {', '.join(MODES)}")


@dataclass(frozen=True)
class ParserError:
    """An error of TensorRT's ONNX parser.

    Attributes:
        text: the message.
        node: index of the node, -1 if unknown.
        name: name of the node, "" if unknown.
        operator: operator of the node, "" if unknown.
        function: the parser function that reports the error, "" if unknown.
    """

    text: str
    node: int = -1
    name: str = ""
    operator: str = ""
    function: str = ""


def statement(text: str) -> str:
    """Returns what an error of TensorRT states, in one line without its C++ functions, files and line numbers."""
    line = " ".join(text.split())
    found = ERROR.search(line)
    return LOCATION.sub("", found[1] if found else line)[:300]


class RefusedError(EngineError):
    """TensorRT refused the model; `errors` contains the parser errors."""

    def __init__(self, message: str, errors: tuple[ParserError, ...]) -> None:
        super().__init__(message)
        self.errors = errors


def shapes(graph: Graph, given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each dynamic input, and each given shape.

    Raises:
        EngineError: a shape is given for a tensor that is not an input, or does not match the input.
    """
    if unknown := sorted(set(given) - graph.inputs):
        known = ", ".join(sorted(graph.inputs))
        raise EngineError(f"--shape: '{unknown[0]}' is not an input; the inputs are {known}")
    found: dict[str, tuple[int, ...]] = {}
    for name in (t.name for t in graph.gs.inputs):
        dims, own = graph.shape(name), given.get(name)
        if own is not None:
            if dims is not None and not _fits(own, dims):
                raise EngineError(f"--shape {name}:{written(own)} does not match the input shape {written(dims)}")
            found[name] = own
        elif dims is not None and None in dims:
            found[name] = tuple(_open(i, len(dims)) if d is None else d for i, d in enumerate(dims))
    return found


def _fits(own: tuple[int, ...], dims: tuple[int | None, ...]) -> bool:
    return len(own) == len(dims) and all(d in (None, o) for d, o in zip(dims, own, strict=True))


def _open(index: int, rank: int) -> int:
    return SPATIAL if rank == 4 and index > 1 else 1


def written(dims: tuple[int | None, ...]) -> str:
    """Returns dimensions in trtexec's format: 1x3x224x224, with ? for a dynamic dimension."""
    return "x".join("?" if d is None else str(d) for d in dims)


def shape_notes(chosen: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Returns a note for each chosen shape."""
    return tuple(f"'{name}' was built for {written(dims)}; use --shape to change it" for name, dims in chosen.items())
