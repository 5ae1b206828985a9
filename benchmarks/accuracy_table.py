"""What `fix` and `fix --data` do to the outputs of a quantized network: SQNR against the float network.

    python benchmarks/accuracy_table.py FOLDER NAME=FLOAT.onnx:PREPROCESS ... --photos DIR ... [--exporter NAME ...]
        [--python EXPORTER=PYTHON ...]

For each network and exporter: the median over the judging photographs, a mean over the outputs where there are several,
of the exported file; of the same with no repairs but those that TensorRT needs to read it, which has no UINT8 and no
zero-points ("legal"); after `fix`; after `fix --data`, with its difference to the legal file; and after
`fix --data --bias-correction`, with its difference to `fix --data`. Differences have their standard error, the
photographs of both files drawn together. PREPROCESS is as for `--preprocess`; it contains the size if
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
from dataclasses import dataclass
from hashlib import sha256
from math import isnan, log10, nan
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
from numpy.typing import NDArray

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
HEAD = (
    *("network", "exporter", "exported", "legal", "`fix`", "`fix --data`", "`fix --data` − legal"),
    *("`--bias-correction`", "− `fix --data`", "CPU s"),
)
LEAST_SIDE = 160
"""Smaller pictures are icons."""
LARGEST = 150.0
"""SQNR in dB of an output without a difference, for means."""
WORSE = 0.1
"""Decibels below the legal file that count as worse."""
DRAWS = 500
"""Draws for a standard error."""
Outputs = list[list[np.ndarray]]


@dataclass(frozen=True)
class Row:
    """One exported file.

    Attributes:
        values: SQNR in dB of the exported file, made legal, after `fix`, after `fix --data`, and with biases corrected.
        gain: how far `fix --data` is above the legal file, in dB, and the standard error of that.
        correction: how far the corrected biases raise `fix --data`, likewise.
        seconds: processor time of `fix --data`.
    """

    values: tuple[float, ...]
    gain: tuple[float, float]
    correction: tuple[float, float]
    seconds: float


def pictures(folders: Sequence[Path], count: int | None = None) -> list[Path]:
    """The first `count` photographs, or all, of the folders in a seeded order, without copies and icons."""
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
    if len(order) < (count or 1):
        raise SystemExit(f"{len(order)} photographs found, and {count or 1} are needed")
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


def ratios(reference: Outputs, found: Outputs) -> NDArray[np.float64]:
    """SQNR in dB of each output and sample, [outputs, samples]; nan where the reference is zero."""
    rows = []
    for ours, theirs in zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True):
        pairs = [(float((a**2).sum()), float(((a - b) ** 2).sum())) for a, b in zip(ours, theirs, strict=True)]
        rows.append([nan if s == 0 else min(LARGEST, 10 * log10(s / n)) if n else LARGEST for s, n in pairs])
    return np.array([row for row in rows if not all(map(isnan, row))])


def typical(values: NDArray[np.float64]) -> float:
    """The mean over the outputs of the median over the samples, of `ratios`."""
    return float(np.nanmedian(values, axis=1).mean())


def difference(old: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[float, float]:
    """How far `typical` rises, and the standard error of that: the samples are drawn again, `DRAWS` times."""
    drawn = np.random.default_rng(0).integers(0, old.shape[1], (DRAWS, old.shape[1]))
    return typical(new) - typical(old), float(np.std([typical(new[:, d]) - typical(old[:, d]) for d in drawn]))


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


def legal(path: Path) -> onnx.ModelProto:
    """The file with no repairs but those of what TensorRT refuses: zero-points, UINT8, quantized biases."""
    return qdqgraph.fix(path, [rule for rule in qdqgraph.rules() if rule.code.startswith("QDQ4")]).model


def row(
    path: Path,
    reference: Outputs,
    names: Sequence[str],
    calibrate: Sequence[np.ndarray],
    judge: Sequence[np.ndarray],
    keep: Path,
) -> Row:
    """Measures an exported file; writes the calibrated one to `keep`."""
    model = onnx.load(path)
    name = model_inputs(model)[0].name
    data = [{name: image} for image in calibrate]
    start = time.process_time()
    measured = qdqgraph.fix(path, data=data, output=keep, force=True).model
    seconds = time.process_time() - start
    corrected = qdqgraph.fix(path, data=data, bias_correction=True).model
    files = (model, legal(path), qdqgraph.fix(path).model, measured, corrected)
    found = [ratios(reference, outputs(m, judge, path.parent, names)) for m in files]
    return Row(tuple(map(typical, found)), difference(found[1], found[3]), difference(found[3], found[4]), seconds)


def main() -> int:
    """Prints the table; returns 1 if `fix --data` is worse than a legal file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="+", metavar="NAME=FLOAT.onnx:PREPROCESS")
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--calibrate", type=int, default=16, metavar="N")
    parser.add_argument("--judge", type=int, default=16, metavar="N")
    parser.add_argument("--exporter", nargs="+", choices=recipes.EXPORTERS, default=EXPORTED)
    parser.add_argument("--python", action="append", default=[], metavar="EXPORTER=PYTHON")
    args = parser.parse_args()
    paths, failed = pictures(args.photos, args.calibrate + args.judge), 0
    (args.folder / "data").mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD), sep="\n")
    for text in args.networks:
        network, _, rest = text.partition("=")
        source, _, preprocess = rest.partition(":")
        model, known = prepared(Path(source), Preprocess.parse(preprocess))
        images = [read_picture(path, known) for path in paths]
        calibrate, judge = images[: args.calibrate], images[args.calibrate :]
        names = [o.name for o in model.graph.output]
        reference = outputs(model, judge, args.folder)
        for exporter in args.exporter:
            out = args.folder / f"{network}.{exporter}.onnx"
            reason = exported(exporter, out, model, calibrate, interpreter(args.python, exporter))
            if reason:
                print(f"| {network} | {exporter} | no file: {reason} |{' |' * (len(HEAD) - 3)}", flush=True)
                continue
            found = row(out, reference, names, calibrate, judge, args.folder / "data" / out.name)
            failed |= found.gain[0] < -WORSE
            cells = [f"{value:.2f}" for value in found.values]
            cells[4:4] = ["{:+.2f} ± {:.2f}".format(*found.gain)]
            cells.append("{:+.2f} ± {:.2f}".format(*found.correction))
            print(f"| {network} | {exporter} | {' | '.join(cells)} | {found.seconds:.0f} |", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
