"""What `tune` finds: an exporter's file, `fix`, `fix --data`, and `tune` at three costs, on samples no search saw.

    python benchmarks/tune_table.py FOLDER --search DIR --judge DIR [--fashion DIR] [--device orin] [--other TITLE=FILE]
        NAME=MODEL.onnx:FLOAT.onnx:PREPROCESS ...

PREPROCESS is as for `--preprocess`, or `fashion`: the labelled images of Fashion-MNIST in DIR, with a score. For each
file: the SQNR of the outputs against the float network on the judging photographs (the median photograph, and the noise
of all of them added up), or the accuracy on the test images in percent, and the noise of all of these; bytes between
convolution blocks in a build by TensorRT-RTX; the estimated times on two devices; and what the search took. The costs:
none, and at most 1 and 5 % slower than `fix --data`. The searches of a network share one storage, so the second and the
third only choose. Files are written to FOLDER. Needs qdqgraph[ort,pictures,tune,rtx].
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import qdqgraph
from benchmarks.accuracy_labels import CALIBRATION, share
from benchmarks.accuracy_table import Outputs, outputs, prepared, ratios, typical
from qdqgraph.api.tuning import TRIALS
from qdqgraph.calibration.data.pictures import PICTURES, read_picture
from qdqgraph.calibration.data.preprocess import Preprocess
from qdqgraph.calibration.inputs import model_inputs
from qdqgraph.engines.compare.storage import Storage
from qdqgraph.verify.scores import Evaluate, Run
from samples import fashion

HEAD = ("network", "file", "SQNR dB, or accuracy %", "all samples, dB", "bytes", "orin ms", "a100 ms", "candidates")
LAST = ("builds", "CPU s", "minutes")
DEVICES = ("orin", "a100")
SCORED = 2000
"""Training images that score a candidate; they are not those that calibrate."""
SLOWER = (1, 5)
"""Percent."""
Feeds = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Task:
    """The data of a network.

    Attributes:
        search: the samples of the search.
        judged: the cells that say how good a model is on samples that no search saw.
        evaluate: the score of the search; None for none.
    """

    search: Feeds
    judged: Callable[[onnx.ModelProto], list[str]]
    evaluate: Evaluate | None = None


def photographs(source: Path, preprocess: str, search: Path, judge: Path) -> Task:
    """Photographs in two folders; the float network is the truth."""
    float_model, known = prepared(source, Preprocess.parse(preprocess))
    name = model_inputs(float_model)[0].name
    feeds, images = (
        [read_picture(path, known) for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES]
        for folder in (search, judge)
    )
    names = [o.name for o in float_model.graph.output]
    reference = outputs(float_model, images, Path())

    def judged(model: onnx.ModelProto) -> list[str]:
        found = outputs(model, images, Path(), names)
        return [f"{typical(ratios(reference, found)):.2f}", f"{pooled(reference, found):.2f}"]

    return Task([{name: image} for image in feeds], judged)


def pooled(reference: Outputs, found: Outputs) -> float:
    """SQNR in dB of the noise of all samples added up, the mean over the outputs."""
    levels = []
    for ours, theirs in zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True):
        noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(ours, theirs, strict=True))
        levels.append(10 * np.log10(sum(float((a**2).sum()) for a in ours) / noise))
    return float(np.mean(levels))


def clothing(float_model: onnx.ModelProto, folder: Path) -> Task:
    """Fashion-MNIST: training images calibrate and score, test images judge."""
    train, test = fashion.load(folder)
    name = model_inputs(float_model)[0].name
    used = slice(CALIBRATION, CALIBRATION + SCORED)
    images = list(test.images[:, None])
    reference = outputs(float_model, images, Path())

    def evaluate(run: Run) -> float:
        classes = [int(next(iter(run({name: image[None]}).values())).argmax()) for image in train.images[used]]
        return float((np.array(classes) == train.labels[used]).mean())

    def judged(model: onnx.ModelProto) -> list[str]:
        found = outputs(model, images, Path())
        right: NDArray[np.bool_] = np.array([int(sample[0].argmax()) for sample in found]) == test.labels
        return ["{:.2f} ± {:.2f}".format(*share(right)), f"{pooled(reference, found):.2f}"]

    return Task([{name: image} for image in train.images[:CALIBRATION, None]], judged, evaluate)


def costs(path: Path) -> list[str]:
    """Bytes between convolution blocks in a build by TensorRT-RTX, and the estimated times."""
    try:
        stored = f"{Storage.of(qdqgraph.build(path)).boundary_bytes:,}"
    except qdqgraph.EngineError:
        stored = "refused"
    return [stored, *(f"{qdqgraph.estimate([path], device=name, fp16=True)[0].ms:.4f}" for name in DEVICES)]


def show(network: str, title: str, task: Task, path: Path, taken: Sequence[str] = ("", "", "", "")) -> None:
    """Prints a row."""
    print(f"| {network} | {title} | {' | '.join([*task.judged(onnx.load(path)), *costs(path), *taken])} |", flush=True)


def rows(folder: Path, network: str, text: str, others: Sequence[str], args: argparse.Namespace) -> None:
    """The rows of a network."""
    model, source, preprocess = text.split(":", 2)
    task = (
        clothing(onnx.load(source), args.fashion)
        if preprocess == "fashion"
        else photographs(Path(source), preprocess, args.search, args.judge)
    )
    show(network, "exporter's file", task, Path(model))
    for other in others:
        title, _, path = other.partition("=")
        show(network, title, task, Path(path))
    common: dict[str, Any] = {"force": True}
    fixed = folder / f"{network}.fix.onnx"
    qdqgraph.fix(model, output=fixed, **common)
    show(network, "`fix`", task, fixed)
    start = time.process_time(), time.monotonic()
    measured = folder / f"{network}.data.onnx"
    qdqgraph.fix(model, data=task.search, reference=source, output=measured, **common)
    show(network, "`fix --data`", task, measured, ("", "", *spent(start)))
    common |= {
        "reference": source,
        "device": args.device,
        "evaluate": task.evaluate,
        "trials": args.trials,
        "storage": f"sqlite:///{(folder / f'{network}.db').absolute()}",
    }
    tuned(network, "`tune`", {}, folder, model, task, common)
    for percent in SLOWER[: args.budgets]:
        title = f"`tune --max-slower {percent:g}`"
        tuned(network, title, {"max_slower": percent}, folder, model, task, common)


def tuned(
    network: str,
    title: str,
    budget: Mapping[str, float],
    folder: Path,
    model: str,
    task: Task,
    common: Mapping[str, Any],
) -> None:
    """Prints the row of a search."""
    start = time.process_time(), time.monotonic()
    out = folder / f"{network}.{'-'.join(f'{k}-{v:g}' for k, v in budget.items()) or 'tuned'}.onnx"
    try:
        found = qdqgraph.tune(model, task.search, output=out, **budget, **common).outcome  # type: ignore[arg-type]
    except qdqgraph.QdqgraphError as error:
        print(f"| {network} | {title} | {str(error).splitlines()[0]} |", flush=True)
        return
    show(network, title, task, out, (str(found.candidates), str(found.builds), *spent(start)))


def spent(start: tuple[float, float]) -> tuple[str, str]:
    """Processor seconds and minutes since two clocks."""
    return f"{time.process_time() - start[0]:.0f}", f"{(time.monotonic() - start[1]) / 60:.1f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="+", metavar="NAME=MODEL:FLOAT:PREPROCESS")
    parser.add_argument("--search", type=Path)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--fashion", type=Path, default=fashion.FOLDER)
    parser.add_argument("--device", default=DEVICES[0])
    parser.add_argument("--budgets", type=int, default=2, metavar="N", help="rows with a budget (default: 2)")
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N", help=f"as tune (default: {TRIALS})")
    parser.add_argument("--other", action="append", default=[], metavar="NETWORK:TITLE=FILE")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    head = (*HEAD, *LAST)
    print(f"| {' | '.join(head)} |", "|" + " --- |" * len(head), sep="\n")
    for given in args.networks:
        network, _, text = given.partition("=")
        others = [other.partition(":")[2] for other in args.other if other.startswith(f"{network}:")]
        rows(args.folder, network, text, others, args)


if __name__ == "__main__":
    main()
