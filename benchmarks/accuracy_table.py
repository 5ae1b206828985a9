"""What `fix` and `fix --data` do to the outputs of a quantized network: SQNR against the float network.

    python benchmarks/accuracy_table.py FOLDER --photos DIR ... [--exporter NAME ...] [--python EXPORTER=PYTHON ...]
        NAME=FLOAT.onnx:PREPROCESS ...

For each network and exporter: the median over the judging photographs, a mean over the outputs where there are several,
of the exported file, after `fix`, and after `fix --data`. PREPROCESS is as for `--preprocess`; it contains the size if
that of the network is dynamic. Half of `--samples` photographs calibrate, both in the exporter and in `fix --data`; the
other half judge. Missing exported files are written to FOLDER by the recipes of docs/recipes.md; `--python` names the
interpreter that has an exporter. Needs qdqgraph[ort,pictures].
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from statistics import fmean, median

import numpy as np
import onnx
import PIL.Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import qdqgraph
from benchmarks.exporters import recipes
from benchmarks.exporters.networks import fixed
from qdqgraph.calibration.data.form import Input
from qdqgraph.calibration.data.pictures import PICTURES, read_picture
from qdqgraph.calibration.data.preprocess import Preprocess
from qdqgraph.calibration.inputs import model_inputs
from qdqgraph.model import runtime

EXPORTED = ("ort-default", "ort-s8sym-perchannel", "pq", "nncf")
LEAST_SIDE = 160
"""Smaller pictures are icons."""
LARGEST = 150.0
"""SQNR in dB of an output without a difference, for means."""
WORSE = 0.1
"""Decibels below the exported file that are marked."""
Outputs = list[list[np.ndarray]]


def pictures(folders: Sequence[Path], count: int) -> list[Path]:
    """The first `count` photographs of the folders in a seeded order, without copies and icons."""
    found: dict[bytes, Path] = {}
    for path in (p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURES):
        try:
            with PIL.Image.open(path) as picture:
                if min(picture.size) >= LEAST_SIDE:
                    found.setdefault(sha256(path.read_bytes()).digest(), path)
        except OSError:
            continue
    order = [found[digest] for digest in sorted(found)]
    random.Random(0).shuffle(order)
    if len(order) < count:
        raise SystemExit(f"{len(order)} photographs found, and {count} are needed")
    return order[:count]


def prepared(path: Path, preprocess: Preprocess) -> tuple[onnx.ModelProto, Preprocess]:
    """The float network with a fixed input shape, and the preprocessing with its sizes filled in."""
    model = onnx.load(path)
    info = model_inputs(model)[0]
    dims = tuple(d.dim_value or None for d in info.type.tensor_type.shape.dim)
    if preprocess.size is not None:  # a network with another fixed size is refused by the next line
        last = preprocess.layout == "nhwc" or dims[3] in (1, 3)
        dims = (None, *preprocess.size, dims[3]) if last else (None, dims[1], *preprocess.size)
    known = preprocess.of(Input(info.name, np.dtype(np.float32), dims))
    assert known.size is not None
    height, width = known.size
    channels = (dims[3] if known.layout == "nhwc" else dims[1]) or 3
    return fixed(model, (1, height, width, channels) if known.layout == "nhwc" else (1, channels, height, width)), known


def outputs(model: onnx.ModelProto, images: Sequence[np.ndarray], folder: Path, names: Sequence[str] = ()) -> Outputs:
    """The outputs of each image, in the order of `names` if the model has these names."""
    own = [o.name for o in model.graph.output]
    order = [own.index(n) for n in names] if set(own) == set(names) else range(len(own))
    found = runtime.run(model, [{model_inputs(model)[0].name: image} for image in images], folder)
    return [[np.asarray(sample[i], np.float64) for i in order] for sample in found]


def sqnr(reference: Outputs, found: Outputs) -> float:
    """The mean over the outputs of the median over the samples, in dB; samples whose reference is zero are left out."""
    each = []
    for ours, theirs in zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True):
        pairs = [(float((a**2).sum()), float(((a - b) ** 2).sum())) for a, b in zip(ours, theirs, strict=True)]
        values = [min(LARGEST, 10 * np.log10(s / n)) if n > 0 else LARGEST for s, n in pairs if s > 0]
        each += [median(values)] if values else []
    return fmean(each)


def interpreter(given: Sequence[str], exporter: str) -> str:
    """The interpreter that an EXPORTER=PYTHON names for the exporter; this one by default."""
    return dict(entry.split("=", 1) for entry in given).get(exporter, sys.executable)


def exported(exporter: str, out: Path, model: onnx.ModelProto, images: Sequence[np.ndarray], python: str) -> str:
    """Writes the exported file unless it exists; returns why the exporter wrote none, or ""."""
    if out.exists():
        return ""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "photos.npy", np.stack(images))
        onnx.save(model, folder / "model.onnx")
        return recipes.run(exporter, folder, out, python=python)


def row(path: Path, reference: Outputs, names: Sequence[str], images: Sequence[np.ndarray], keep: Path) -> list[float]:
    """SQNR of the exported file, after `fix` and after `fix --data`, in dB, and the seconds of `fix --data`."""
    half = len(images) // 2
    model = onnx.load(path)
    name = model_inputs(model)[0].name
    plain = qdqgraph.fix(path)
    start = time.process_time()
    measured = qdqgraph.fix(path, data=[{name: image} for image in images[:half]], output=keep)
    seconds = time.process_time() - start
    files = (model, plain.model, measured.model)
    return [*(sqnr(reference, outputs(m, images[half:], path.parent, names)) for m in files), seconds]


def main() -> int:
    """Prints the table; returns 1 if `fix --data` is worse than an exported file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="+", metavar="NAME=FLOAT.onnx:PREPROCESS")
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--exporter", nargs="+", choices=recipes.EXPORTERS, default=EXPORTED)
    parser.add_argument("--python", action="append", default=[], metavar="EXPORTER=PYTHON")
    args = parser.parse_args()
    paths, failed = pictures(args.photos, args.samples), 0
    (args.folder / "data").mkdir(parents=True, exist_ok=True)
    print("| network | exporter | exported | `fix` | `fix --data` | CPU s |", "|" + " --- |" * 6, sep="\n")
    for text in args.networks:
        network, _, rest = text.partition("=")
        source, _, preprocess = rest.partition(":")
        model, known = prepared(Path(source), Preprocess.parse(preprocess))
        images = [read_picture(path, known) for path in paths]
        names = [o.name for o in model.graph.output]
        reference = outputs(model, images[len(images) // 2 :], args.folder)
        for exporter in args.exporter:
            out = args.folder / f"{network}.{exporter}.onnx"
            reason = exported(exporter, out, model, images[: len(images) // 2], interpreter(args.python, exporter))
            if reason:
                print(f"| {network} | {exporter} | no file: {reason} | | | |", flush=True)
                continue
            *found, seconds = row(out, reference, names, images, args.folder / "data" / out.name)
            worse = found[2] < found[0] - WORSE
            failed |= worse
            cells = " | ".join([*(f"{value:.2f}" for value in found[:2]), f"{found[2]:.2f}{' (worse)' * worse}"])
            print(f"| {network} | {exporter} | {cells} | {seconds:.0f} |", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
