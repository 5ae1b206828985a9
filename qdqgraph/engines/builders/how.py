"""What every way of building an engine has in common: the order, the shapes, and how a refusal is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import EngineError
from ...graph.graph import Graph
from .limits import Limits

SPATIAL = 320
"""Height and width where the file leaves them open: a multiple of 32, as detectors need."""


@dataclass(frozen=True)
class Build:
    """How to build.

    Attributes:
        mode: "qdq" (INT8 where there are Q/DQ), "fp16", or "best" (TensorRT chooses; for models without Q/DQ).
        shapes: of inputs with open dimensions, by name; without one the batch is 1 and pictures have 320 pixels.
        limits: of time and memory.
        keep: a folder in which all that was exported, and the log, stays.
    """

    mode: str = "qdq"
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    keep: Path | None = None


@dataclass(frozen=True)
class ParserError:
    """What the parser refused: the node's number, name and operator where it says them, and its words."""

    text: str
    node: int = -1
    name: str = ""
    operator: str = ""
    function: str = ""


class RefusedError(EngineError):
    """TensorRT refused the model."""

    def __init__(self, message: str, errors: tuple[ParserError, ...]) -> None:
        super().__init__(message)
        self.errors = errors


def shapes(graph: Graph, given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A shape for every input with open dimensions.

    Raises:
        EngineError: a given shape names no input, or does not fit it.
    """
    if unknown := sorted(set(given) - graph.inputs):
        known = ", ".join(sorted(graph.inputs))
        raise EngineError(f"--shape names '{unknown[0]}', which is no input; there are {known}")
    found: dict[str, tuple[int, ...]] = {}
    for name in (t.name for t in graph.gs.inputs):
        dims, own = graph.shape(name), given.get(name)
        if own is not None:
            if dims is not None and not _fits(own, dims):
                raise EngineError(f"--shape {name}:{written(own)} does not fit the input, {written(dims)}")
            found[name] = own
        elif dims is not None and None in dims:
            found[name] = tuple(_open(i, len(dims)) if d is None else d for i, d in enumerate(dims))
    return found


def _fits(own: tuple[int, ...], dims: tuple[int | None, ...]) -> bool:
    return len(own) == len(dims) and all(d in (None, o) for d, o in zip(dims, own, strict=True))


def _open(index: int, rank: int) -> int:
    return SPATIAL if rank == 4 and index > 1 else 1


def written(dims: tuple[int | None, ...]) -> str:
    """Dimensions as trtexec writes them: 1x3x224x224, with ? for an open one."""
    return "x".join("?" if d is None else str(d) for d in dims)


def shape_notes(chosen: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """What a reader must know about shapes that were chosen."""
    return tuple(f"'{name}' was built for {written(dims)}; --shape sets another" for name, dims in chosen.items())
