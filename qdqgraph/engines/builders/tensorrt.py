"""Builds engines with a real TensorRT through its Python API: TensorRT-RTX on any CPU, TensorRT on a GPU.

TensorRT-RTX parses and compiles ahead of time, without a GPU or driver. The result shows which graphs are legal and
what is stored between kernels, but not the fused INT8 epilogues of TensorRT on a GPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ...errors import EngineError
from ...extras import install_hint
from ...graph.graph import Graph
from ..layers import Engine
from ..read import listing
from ..read.saved import open_engine
from . import child
from .how import Build, ParserError, RefusedError, shape_notes, shapes, statement

PROOF = "forecast for a GPU, proven on TensorRT-RTX"
"""The strongest claim that a TensorRT-RTX build supports."""


def module_of(library: str) -> str:
    """Returns the Python module of "tensorrt-rtx" or "tensorrt".

    Raises:
        EngineError: it is not installed.
    """
    module = library.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        advice = install_hint("tensorrt") if library == "tensorrt-rtx" else "pip install tensorrt"
        raise EngineError(f"{library} is not installed: {advice}")
    return module


def build(graph: Graph, model: Path, library: str, how: Build) -> Engine:
    """Builds an engine with TensorRT.

    Args:
        graph: the graph of the model.
        model: the model file.
        library: "tensorrt-rtx" or "tensorrt".
        how: mode, shapes and limits of the build.

    Raises:
        RefusedError: TensorRT refused the model.
        EngineError: the library is missing, crashed or exceeded a limit, or cannot build in this mode.
    """
    module = module_of(library)
    chosen = shapes(graph, how.shapes)
    with child.built("tensorrt_child", library, _job(model, module, how.mode, chosen), how) as (folder, result):
        return _engine(model, library, folder, result, shape_notes(chosen))


def _job(model: Path, module: str, mode: str, chosen: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    """Returns the job of the child process; the flags for the types depend on the version.

    Raises:
        EngineError: this version cannot build in this mode.
    """
    rtx = module == "tensorrt_rtx"
    if mode == "best":
        raise EngineError("--mode best needs trtexec: use --with trtexec, on TensorRT 10.x or older")
    if rtx and mode != "qdq":
        raise EngineError(f"--mode {mode}: TensorRT-RTX uses the types of the file; convert the file instead")
    weak = not rtx and _major(module) < 11
    if not rtx and not weak and mode == "fp16":
        raise EngineError("--mode fp16: TensorRT 11 uses the types of the file; convert the file instead")
    flags = {"qdq": ["INT8", "FP16"], "fp16": ["FP16"]}[mode] if weak else []
    return {
        "module": module,
        "model": str(model.resolve()),
        "shapes": {name: list(dims) for name, dims in chosen.items()},
        "network": ["EXPLICIT_BATCH"] if weak else ["STRONGLY_TYPED"],
        "flags": flags,
        "compute_capability": "SM89" if rtx else "",
        "inspect": not rtx,
    }


def _major(module: str) -> int:
    """Returns the major version of an installed package without importing it; 10 if unknown."""
    try:
        return int(metadata.version(module).split(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return 10


def _engine(model: Path, library: str, folder: Path, result: Mapping[str, Any], shaped: tuple[str, ...]) -> Engine:
    name = f"{'TensorRT-RTX' if library == 'tensorrt-rtx' else 'TensorRT'} {result['version']}"
    if result.get("failed"):
        errors = tuple(ParserError(**e) for e in result["errors"])
        said = [e.text for e in errors] or result.get("said", []) or ["no reason given"]
        raise RefusedError(f"{name} refuses {model.name}: {statement(said[0])}", errors)
    notes = list(shaped)
    notes += [result["note"]] if result.get("note") else []
    if library == "tensorrt-rtx":
        notes.append(f"{PROOF}: it shows what is legal and what is stored between kernels, not the fusion on a GPU")
        layers = listing.layers((folder / "layers.txt").read_text(encoding="utf-8"))
        return Engine(model.name, name, layers, notes=tuple(notes))
    if not (folder / "layers.json").is_file():
        raise EngineError(f"{name} built {model.name}, but {notes[-1] if notes else 'reports no layers'}")
    profile, times = (p if p.is_file() else None for p in (folder / "profile.json", folder / "times.json"))
    engine = open_engine(folder / "layers.json", profile=profile, times=times)
    return replace(engine, name=model.name, source=name, notes=(*engine.notes, *notes))
