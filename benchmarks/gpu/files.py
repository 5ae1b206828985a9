"""The files of a network: float, as an exporter wrote it, repaired, repaired with data, Model Optimizer's, and FP16.

Each is a file NET/VARIANT.onnx, or NET/VARIANT.txt with the reason why there is none. What exists is not made again, so
you may also put a file of your own there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

import qdqgraph
from benchmarks.exporters import networks
from benchmarks.exporters.recipes import EXPORTERS, export, missing

VARIANTS = ("fp16", "exported", "fixed", "data", "modelopt")
"""The files that are built, in the order of the table; `fp16` is what the others are compared with."""
FLOAT = "float.onnx"
CALIBRATE, CHECK = "calibrate", "check"
"""The folders of samples: for scales, and for the comparison with ONNX Runtime."""


def kept(path: Path, make: Callable[[Path], str]) -> str:
    """Makes a file unless it or the reason for its absence exists; returns the reason, "" if the file exists.

    Args:
        path: the file.
        make: writes the file at a temporary path, and returns "" or the reason why it did not.
    """
    note = path.with_suffix(".txt")
    if path.exists():
        return ""
    if note.exists():
        return note.read_text(encoding="utf-8")
    part = path.with_name(f"part.{path.name}")
    try:
        reason = make(part)
    except Exception as error:  # noqa: BLE001, any failure is recorded, and the other files are made
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    if reason or not part.exists():
        note.write_text(reason or "nothing was written", encoding="utf-8")
        return reason or "nothing was written"
    part.replace(path)
    return ""


def prepare(name: str, folder: Path, wheels: Path) -> None:
    """Writes the files of a network and its samples, unless they exist; a failure is in VARIANT.txt.

    Args:
        name: a network of `benchmarks.exporters.networks`, or one whose exported file is in the folder.
        folder: the folder of the network.
        wheels: the folder of the wheels; see `benchmarks.exporters`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = name in networks.NETWORKS
    if known:
        kept(folder / CALIBRATE, lambda part: _samples(name, wheels, folder, part))
    if known and networks.NETWORKS[name].path:
        kept(folder / FLOAT, lambda part: _saved(networks.prepared(name, networks.original(name, wheels)), part))
    original = folder / FLOAT
    exporter = "ort-default" if original.exists() else "ultralytics"
    kept(folder / "exported.onnx", lambda part: _exported(exporter, name, wheels, part) if known else "no file given")
    exported, samples = folder / "exported.onnx", folder / CALIBRATE
    reference = original if original.exists() else None

    def fixed(part: Path) -> str:
        qdqgraph.fix(exported, output=part)
        return ""

    def with_data(part: Path) -> str:
        if not samples.is_dir():
            return f"no samples: put .npz files into {samples}"
        qdqgraph.fix(exported, output=part, data=samples, reference=reference)
        return ""

    def half(part: Path) -> str:
        if reference is None:
            return f"no float network: put it at {original}"
        qdqgraph.to_fp16(reference, output=part)
        return ""

    kept(folder / "fixed.onnx", fixed)
    kept(folder / "data.onnx", with_data)
    kept(folder / "fp16.onnx", half)
    kept(folder / "modelopt.onnx", lambda part: _exported("modelopt", name, wheels, part) if known else "no file given")


def _exported(exporter: str, name: str, wheels: Path, part: Path) -> str:
    if name not in EXPORTERS[exporter].networks:
        return f"{exporter} does not export {name}"
    return missing(exporter) or export(exporter, name, wheels, part)


def _saved(model: onnx.ModelProto, part: Path) -> str:
    onnx.save(model, part)
    return ""


def _samples(name: str, wheels: Path, folder: Path, part: Path) -> str:
    """Writes the photographs of a network, one file each: half to calibrate, half to check."""
    network = networks.NETWORKS[name]
    tensor = "images" if not network.path else _input(networks.original(name, wheels))
    shutil.rmtree(part, ignore_errors=True)
    for images, place in zip(networks.photos(name, wheels), (part, folder / CHECK), strict=True):
        place.mkdir(exist_ok=True)
        for index, image in enumerate(images):
            np.savez(place / f"{index:02}.npz", allow_pickle=False, **{tensor: image})
    return ""


def _input(model: onnx.ModelProto) -> str:
    constants = {i.name for i in model.graph.initializer}
    return str(next(i.name for i in model.graph.input if i.name not in constants))
