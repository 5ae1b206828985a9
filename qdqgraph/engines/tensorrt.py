"""Engines built by a real TensorRT through its Python API: TensorRT-RTX on any CPU, TensorRT where there is a GPU.

TensorRT-RTX parses and compiles ahead of time and needs neither a GPU nor a driver for it. What it shows is legality
and what is stored between kernels, not the fused INT8 epilogues of TensorRT on a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import EngineError
from . import limits, listing
from .layers import Engine
from .limits import Limits
from .saved import open_engine

PROOF = "forecast for a GPU, proven on TensorRT-RTX"
"""All that a build by TensorRT-RTX may claim."""
CHILD = "qdqgraph.engines.tensorrt_child"


@dataclass(frozen=True)
class Build:
    """How to build.

    Attributes:
        mode: "qdq" (INT8 where there are Q/DQ), "fp16", or "best" (trtexec alone).
        shapes: for inputs with open dimensions, by name; without one the batch is 1 and pictures have 320 pixels.
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


def build(model: Path, library: str, how: Build) -> Engine:
    """The engine that TensorRT builds.

    Args:
        library: "tensorrt-rtx" or "tensorrt".

    Raises:
        RefusedError: TensorRT refused the model.
        EngineError: the library is missing, crashed or passed a limit, or cannot build in this mode.
    """
    module = library.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        advice = "pip install 'qdqgraph[tensorrt]'" if library == "tensorrt-rtx" else "pip install tensorrt"
        raise EngineError(f"{library} is not installed: {advice}")
    with tempfile.TemporaryDirectory(prefix="qdqgraph-") as temporary:
        folder = how.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        job = _job(model, module, how)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        for old in ("result.json", "layers.txt", "layers.json", "profile.json", "times.json"):
            (folder / old).unlink(missing_ok=True)
        log, path = folder / "build.log", ":".join(p for p in sys.path if p)
        command = (sys.executable, "-m", CHILD, str(folder / "job.json"))
        code = limits.run(command, library, log, how.limits, {"PYTHONPATH": path})
        if code or not (folder / "result.json").is_file():
            raise EngineError(f"{library} failed with exit code {code}{limits.last_words(log)}")
        return _engine(model, library, folder)


def _job(model: Path, module: str, how: Build) -> dict[str, object]:
    """What the child is to do; which flags a version has decides how types are told."""
    rtx = module == "tensorrt_rtx"
    if how.mode == "best":
        raise EngineError("--mode best is trtexec's: build it --with trtexec, on TensorRT 10.x or older")
    if rtx and how.mode != "qdq":
        raise EngineError(
            f"--mode {how.mode}: TensorRT-RTX takes the types that the file has; convert the file instead"
        )
    weak = not rtx and _major(module) < 11
    if not rtx and not weak and how.mode == "fp16":
        raise EngineError("--mode fp16: TensorRT 11 takes the types that the file has; convert the file instead")
    flags = {"qdq": ["INT8", "FP16"], "fp16": ["FP16"]}[how.mode] if weak else []
    return {
        "module": module,
        "model": str(model.resolve()),
        "shapes": {name: list(dims) for name, dims in how.shapes.items()},
        "network": ["EXPLICIT_BATCH"] if weak else ["STRONGLY_TYPED"],
        "flags": flags,
        "compute_capability": "SM89" if rtx else "",
        "inspect": not rtx,
    }


def _major(module: str) -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return int(version(module).split(".")[0])
    except (PackageNotFoundError, ValueError):
        return 10


def _engine(model: Path, library: str, folder: Path) -> Engine:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    name = f"{'TensorRT-RTX' if library == 'tensorrt-rtx' else 'TensorRT'} {result['version']}"
    if result.get("failed"):
        errors = tuple(ParserError(**e) for e in result["errors"])
        said = [e.text for e in errors] or result.get("said", []) or ["it gave no reason"]
        raise RefusedError(f"{name} refuses {model.name}: {' '.join(said[0].split())[:300]}", errors)
    notes = [
        f"'{i}' was built for {'x'.join(map(str, dims))}; --shape sets another" for i, dims in result["shapes"].items()
    ]
    notes += [result["note"]] if result.get("note") else []
    if library == "tensorrt-rtx":
        notes.append(f"{PROOF}: it shows what is legal and what is stored between kernels, not how a GPU fuses them")
        layers = listing.layers((folder / "layers.txt").read_text(encoding="utf-8"))
        return Engine(model.name, name, layers, notes=tuple(notes))
    if not (folder / "layers.json").is_file():
        raise EngineError(f"{name} built {model.name}, but {notes[-1] if notes else 'says nothing of its layers'}")
    profile, times = (p if p.is_file() else None for p in (folder / "profile.json", folder / "times.json"))
    engine = open_engine(folder / "layers.json", profile=profile, times=times)
    return replace(engine, name=model.name, source=name, notes=(*engine.notes, *notes))
