"""What `tune` finds: an exporter's file, `fix`, `fix --data`, and `tune` at three costs, on samples no search saw.

    python benchmarks/tune_table.py FOLDER --search DIR --judge DIR [--fashion DIR] [--device orin] [--other TITLE=FILE]
        NAME=MODEL.onnx:FLOAT.onnx:PREPROCESS ...

PREPROCESS is as for `--preprocess`, or `fashion`: the labelled images of Fashion-MNIST in DIR, with a score. For each
file: the SQNR of the outputs against the float network on the judging photographs (the median photograph, and the noise
of all of them added up), or the accuracy on the test images in percent, and the noise of all of these; how far the SQNR
of a judging sample is above that with `fix --data`, in the mean with its standard error; bytes between convolution
blocks in a build by TensorRT-RTX; the estimated times on two devices; and what the search took. The costs:
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
from tempfile import TemporaryDirectory
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
from qdqgraph.calibration.sizes import sized, sizes_in
from qdqgraph.engines.compare.storage import Storage
from qdqgraph.verify.scores import Evaluate, Run
from samples import fashion

HEAD = ("network", "file", "SQNR dB, or accuracy %", "all samples, dB", "mean gain, dB", "bytes", "orin ms", "a100 ms")
LAST = ("candidates", "builds", "CPU s", "minutes")
DEVICES = ("orin", "a100")
SCORED = 2000
"""Training images that score a candidate; they are not those that calibrate."""
SLOWER = (1, 5)
"""Percent."""
Feeds = list[dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Judged:
    """How good a model is on samples that no search saw.

    Attributes:
        cells: what the table says.
        samples: the SQNR of each sample in dB.
    """

    cells: tuple[str, str]
    samples: NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """The data of a network.

    Attributes:
        search: the samples of the search.
        judged: how good a model is.
        evaluate: the score of the search; None for none.
    """

    search: Feeds
    judged: Callable[[onnx.ModelProto], Judged]
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

    def judged(model: onnx.ModelProto) -> Judged:
        found = outputs(model, images, Path(), names)
        each = ratios(reference, found)
        return Judged((f"{typical(each):.2f}", f"{pooled(reference, found):.2f}"), np.nanmean(each, axis=0))

    return Task([{name: image} for image in feeds], judged)


def pooled(reference: Outputs, found: Outputs) -> float:
    """SQNR in dB of the noise of all samples added up, the mean over the outputs."""
    levels = []
    for ours, theirs in zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True):
        noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(ours, theirs, strict=True))
        levels.append(10 * np.log10(sum(float((a**2).sum()) for a in ours) / noise))
    return float(np.mean(levels))


def clothing(float_model: onnx.ModelProto, folder: Path, count: int) -> Task:
    """Fashion-MNIST: training images calibrate and score, test images judge."""
    train, test = fashion.load(folder)
    name = model_inputs(float_model)[0].name
    used = slice(count, count + SCORED)
    images = list(test.images[:, None])
    reference = outputs(float_model, images, Path())

    def evaluate(run: Run) -> float:
        classes = [int(next(iter(run({name: image[None]}).values())).argmax()) for image in train.images[used]]
        return float((np.array(classes) == train.labels[used]).mean())

    def judged(model: onnx.ModelProto) -> Judged:
        found = outputs(model, images, Path())
        right: NDArray[np.bool_] = np.array([int(sample[0].argmax()) for sample in found]) == test.labels
        cells = "{:.2f} ± {:.2f}".format(*share(right)), f"{pooled(reference, found):.2f}"
        return Judged(cells, np.nanmean(ratios(reference, found), axis=0))

    return Task([{name: image} for image in train.images[:count, None]], judged, evaluate)


def costs(path: Path, feed: Mapping[str, np.ndarray]) -> list[str]:
    """Bytes between convolution blocks in a build by TensorRT-RTX, and estimated times with the shapes of a sample."""
    try:
        stored = f"{Storage.of(qdqgraph.build(path)).boundary_bytes:,}"
    except qdqgraph.EngineError:
        stored = "refused"
    model = onnx.load(path)
    with TemporaryDirectory() as folder:
        shaped = Path(folder) / path.name
        onnx.save(sized(model, sizes_in(model, feed)), shaped)
        times = [qdqgraph.estimate([shaped], device=name, fp16=True)[0].ms for name in DEVICES]
    return [stored, *(f"{ms:.4f}" for ms in times)]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a network, which are printed one after another.

    Attributes:
        network: its name.
        folder: where files are written.
        model: the exporter's file.
        task: its data.
        common: arguments of every search.
    """

    network: str
    folder: Path
    model: str
    task: Task
    common: Mapping[str, Any]

    def show(
        self, title: str, path: Path, base: Judged | None = None, taken: Sequence[str] = ("", "", "", "")
    ) -> Judged:
        """Prints a row; returns what it says of the quality.

        Args:
            title: the kind of file.
            path: the file.
            base: the model that it is compared with.
            taken: candidates, builds, processor seconds and minutes.
        """
        judged = self.task.judged(onnx.load(path))
        gain = "" if base is None else "{:+.2f} ± {:.2f}".format(*mean(judged.samples - base.samples))
        print(
            f"| {' | '.join([self.network, title, *judged.cells, gain, *costs(path, self.task.search[0]), *taken])} |",
            flush=True,
        )
        return judged

    def tuned(self, title: str, budget: Mapping[str, Any], base: Judged) -> None:
        """Prints the row of a search."""
        start = time.process_time(), time.monotonic()
        out = self.folder / f"{self.network}.{'-'.join(f'{k}-{v:g}' for k, v in budget.items()) or 'tuned'}.onnx"
        try:
            found = qdqgraph.tune(self.model, self.task.search, output=out, **{**budget, **self.common}).outcome
        except qdqgraph.QdqgraphError as error:
            print(f"| {self.network} | {title} | {str(error).splitlines()[0]} |", flush=True)
            return
        self.show(title, out, base, (str(found.candidates), str(found.builds), *spent(start)))


def rows(folder: Path, network: str, text: str, others: Sequence[str], args: argparse.Namespace) -> None:
    """The rows of a network."""
    model, source, preprocess = text.split(":", 2)
    task = (
        clothing(onnx.load(source), args.fashion, args.images)
        if preprocess == "fashion"
        else photographs(Path(source), preprocess, args.search, args.judge)
    )
    common: dict[str, Any] = {
        "force": True,
        "reference": source,
        "device": args.device,
        "evaluate": task.evaluate,
        "trials": args.trials,
        "library": args.library,
        "builds": args.builds,
        "storage": f"sqlite:///{(folder / f'{network}.db').absolute()}",
    }
    table = Rows(network, folder, model, task, common)
    table.show("exporter's file", Path(model))
    fixed, measured = folder / f"{network}.fix.onnx", folder / f"{network}.data.onnx"
    qdqgraph.fix(model, output=fixed, force=True)
    table.show("`fix`", fixed)
    start = time.process_time(), time.monotonic()
    qdqgraph.fix(model, data=task.search, reference=source, output=measured, force=True)
    base = table.show("`fix --data`", measured, taken=("", "", *spent(start)))
    for other in others:
        title, _, path = other.partition("=")
        table.show(title, Path(path), base)
    table.tuned("`tune`", {}, base)
    for percent in SLOWER[: args.budgets]:
        table.tuned(f"`tune --max-slower {percent:g}`", {"max_slower": percent}, base)


def mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


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
    parser.add_argument("--images", type=int, default=CALIBRATION, metavar="N", help="of Fashion-MNIST for the search")
    parser.add_argument("--device", default=DEVICES[0])
    parser.add_argument("--budgets", type=int, default=2, metavar="N", help="rows with a budget (default: 2)")
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N", help=f"as tune (default: {TRIALS})")
    parser.add_argument("--with", dest="library", help="as tune")
    parser.add_argument("--builds", type=int, default=10, metavar="N", help="as tune (default: 10)")
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
