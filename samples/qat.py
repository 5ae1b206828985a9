"""The PyTorch side from end to end: train, quantize, link, calibrate, rank layers, fine-tune, export, and score.

    make qat
    python samples/qat.py --data FOLDER -o build/qat

prints for each calibration method the accuracy on all test images of: the float network, plain quantization, linked
quantization, the same with the most sensitive units disabled, the same after quantization-aware training; and, for
comparison, plain quantization repaired by `qdqgraph.fix`. Each file is also checked, and scored in ONNX Runtime.

Finished steps are kept in the output folder and not repeated: you can stop the program and start it again.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import qdqgraph
from qdqgraph import torch as side
from samples import demo, digits, fashion, networks
from samples.record import Batches, Made, Record, Score, accuracy

METHODS = ("max", "percentile", "mse", "entropy")
RAW = "entropy-raw"
"""Entropy for all quantizers, even if it clips much of their input; see `Flow.calibrated`."""
STEPS = ("plain", "repaired", "linked", "without", "tuned")
TOP = 3
"""Number of units that are disabled."""
RATE = 1e-3
"""Learning rate of quantization-aware training."""


@dataclass(frozen=True)
class Parts:
    """The images by purpose, with their share of the training file.

    Attributes:
        train: all except `judge`.
        calibrate: a sixtieth, part of `train`; also ranks units.
        judge: a twelfth, not used for training; chooses the best epoch. The test images stay unseen.
        tune: a quarter; one epoch of quantization-aware training.
    """

    train: digits.Split
    calibrate: Batches
    judge: Batches
    tune: Batches
    test: Batches

    @classmethod
    def of(cls, train: digits.Split, test: digits.Split) -> Parts:
        """Splits the images."""

        def cut(first: int, last: int) -> digits.Split:
            return digits.Split(train.images[first:last], train.labels[first:last])

        count = len(train.images)
        end = (count - count // 12) // demo.BATCH * demo.BATCH
        calibrate, judge = Batches(cut(0, count // 60)), Batches(cut(end, count))
        return cls(cut(0, end), calibrate, judge, Batches(cut(0, count // 4), shuffled=True), Batches(test))


class Flow:
    """The steps of a run on one trained network."""

    def __init__(self, data: Parts, record: Record, epochs: int) -> None:
        self.data, self.record, self.epochs = data, record, epochs
        self.example = torch.from_numpy(data.test.data.images[: demo.BATCH])
        self.network: nn.Module = networks.Digits()

    def trained(self, epochs: int) -> Score:
        """Trains the network and folds its BatchNorms."""
        file = self.record.path("float", "pt")

        def make(path: Path) -> Made:
            torch.manual_seed(0)
            network = networks.Digits()
            demo.train(network, self.data.train, epochs)
            side.fold_norms(network, self.example)
            torch.save(network.state_dict(), file)
            side.export(network, self.example, path, force=True)
            return Made(network)

        score = self.record.step("float", make)
        networks.fold_norms(self.network.eval())
        self.network.load_state_dict(torch.load(file, weights_only=True))
        return score

    def method(self, method: str) -> dict[str, Score]:
        """The steps of one calibration method, in the order of `STEPS`, by file name."""
        makers = (self.plain, self.repaired, self.linked, self.without, self.tuned)
        steps = {f"{method}-{step}": make for step, make in zip(STEPS, makers, strict=True)}
        return {name: self.record.step(name, partial(make, method)) for name, make in steps.items()}

    def plain(self, method: str, path: Path) -> Made:
        """Quantized in pytorch-quantization's way: each input of a convolution or Linear, no ties."""
        model = copy.deepcopy(self.network)
        side.quantize(model)
        return self.calibrated(model, method, path)

    def repaired(self, method: str, path: Path) -> Made:
        """The plain file after `fix`: tied pairs get the largest of their scales."""
        result = qdqgraph.fix(self.record.path(f"{method}-plain", "onnx"), output=path, force=True)
        most = max((change.lost for change in result.changes), default=0.0)
        return Made(None, f"{result.groups} groups, {len(result.changes)} scales changed by at most {most:.2f} bits")

    def linked(self, method: str, path: Path) -> Made:
        """Quantized, tied by the graph rules, then calibrated: a shared scale sees the data of all its tensors."""
        model = copy.deepcopy(self.network)
        side.quantize(model)
        done = side.link(model, self.example)
        note = f"{len(done.groups)} groups, {len(done.added)} quantizers added, {len(done.disabled)} disabled"
        made = self.calibrated(model, method, path, "; ".join([note, *done.unmapped]))
        side.save(model, self.record.path(f"{method}-linked", "pt"), force=True)
        return made

    def without(self, method: str, path: Path) -> Made:
        """The linked network with its most sensitive units disabled, ranked by the distance of the logits to float.

        The distance of logits ranks units that change only a few predictions, and needs no labels. If a residual skip
        is among the disabled units, `check` reports QDQ201; this float skip is intended.
        """
        model = self._loaded(f"{method}-linked")
        images = [images for images, _ in self.data.calibrate]
        with torch.no_grad():
            expected = torch.cat([self.network(x) for x in images])

        def near(model: nn.Module) -> float:
            with torch.no_grad():
                return -float((torch.cat([model(x) for x in images]) - expected).square().mean())

        file = self.record.path(f"{method}-sensitivity", "json")
        ranked = side.sensitivity(model, near, file=file)
        layers, _ = side.apply_sensitivity(model, ranked, top=TOP, example=self.example)
        return self.calibrated(model, method, path, f"of {len(ranked.units)} units off: {', '.join(layers)}")

    def tuned(self, method: str, path: Path) -> Made:
        """The linked network after quantization-aware training with the float network as teacher."""
        model = self._loaded(f"{method}-linked")
        note = self._train(model, f"{method}-tuned")
        side.export(model, self.example, path, force=True)
        return Made(model, note)

    def late(self, method: str, path: Path) -> Made:
        """The plain network after the same training, with the file repaired afterwards: the cost of training without
        ties."""
        model, bare = copy.deepcopy(self.network), path.with_name(f"{method}-plain-tuned.onnx")
        side.quantize(model)
        self.calibrated(model, method, bare)
        note = self._train(model, f"{method}-late")
        side.export(model, self.example, bare, force=True)
        qdqgraph.fix(bare, output=path, force=True)
        return Made(None, f"{note}; before the repair {accuracy(model, self.data.test):.2f} %")

    def _train(self, model: nn.Module, name: str) -> str:
        """Runs quantization-aware training; returns a summary."""
        torch.manual_seed(0)
        done = side.finetune(
            model,
            self.network,
            self.data.tune,
            training=side.Training(epochs=self.epochs, rate=RATE),
            evaluate=lambda model: accuracy(model, self.data.judge),
            loss=lambda found, batch: nn.functional.cross_entropy(found, batch[1]),
            checkpoint=self.record.path(name, "pt"),
            force=True,
            progress=lambda line: self.record.say(f"{name}: {line}"),
        )
        scores = ", ".join(f"{score:.2f}" for score in done.scores)
        return f"best epoch {done.best}; accuracy on the validation images: {scores}"

    def calibrated(self, model: nn.Module, method: str, path: Path, note: str = "") -> Made:
        """Calibrates and exports; quantizers whose amax clips much of their input use the percentile instead.

        The uniform background of the images fills most of the first layers' histograms. Entropy preserves the
        background and clips nearly everything else.
        """
        report = side.calibrate(model, self.data.calibrate, method="entropy" if method == RAW else method)
        if report.clipped and method != RAW:
            instead = dict.fromkeys(report.clipped, "percentile")
            clipped = ", ".join(f"{name} ({part:.0%})" for name, part in report.clipped.items())
            note += f"{'; ' * bool(note)}percentile instead of {method}, which clips them: {clipped}"
            report = side.calibrate(model, self.data.calibrate, method=method, layers=instead)
        side.export(model, self.example, path, force=True)
        odd = str(report).splitlines()[1:]
        return Made(model, "; ".join(part for part in (note, *odd) if part))

    def _loaded(self, name: str) -> nn.Module:
        """The calibrated network of a finished step, loaded."""
        model = copy.deepcopy(self.network)
        side.load(model, self.record.path(name, "pt"))
        return model


def table(record: Record, methods: Sequence[str]) -> str:
    """The accuracies, one line per method, and two differences with their standard errors."""
    heads = ["method", "float", "plain", "plain, then fix", "linked", f"linked, {TOP} units off", "fine-tuned"]
    heads += ["linked − plain", "fine-tuned − float"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for method in methods:
        names = ["float", *(f"{method}-{step}" for step in STEPS)]
        cells = [f"{100 * record.right(name).mean():.2f}" for name in names]
        for name, reference in ((f"{method}-linked", f"{method}-plain"), (f"{method}-tuned", "float")):
            cells.append("{:+.2f} ± {:.2f}".format(*record.difference(name, reference)))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def files(scores: Mapping[str, Score]) -> str:
    """The exported files, one per line."""
    lines = ["| file | pairs | scales | findings | ONNX Runtime | predicted differently | |", "| --- " * 7 + "|"]
    for name, score in scores.items():
        found = ", ".join(f"{code} x{count}" for code, count in sorted(score.findings.items())) or "none"
        cells = (name, score.pairs, score.scales, found, f"{score.exported:.2f}", score.moved, score.note)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> str:
    """Runs all steps; returns the tables.

    Raises:
        FileNotFoundError: the images are missing.
        ValueError: the output folder contains another run.
    """
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {line}", flush=True)

    data = Parts.of(*fashion.load(args.data))
    record = Record(args.output, data.test, say)
    record.begin({"epochs": args.epochs, "tune": args.tune, "images": len(data.train.images)})
    flow = Flow(data, record, args.tune)
    scores = {"float": flow.trained(args.epochs)}
    methods = args.method or METHODS
    for method in methods:
        scores |= flow.method(method)
        if args.late:
            scores[f"{method}-late"] = record.step(f"{method}-late", partial(flow.late, method))
    say(f"all steps together took {sum(score.seconds for score in scores.values()):.0f} s of processor time")
    return f"\n{files(scores)}\n\n{table(record, methods)}"


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, quantize, link, calibrate, fine-tune and score a network.")
    parser.add_argument("--data", type=Path, default=fashion.FOLDER, help=f"the images (default: {fashion.FOLDER})")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/qat"), help="for files (default: build/qat)")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of training the float network (default: 8)")
    parser.add_argument("--tune", type=int, default=3, help="epochs of quantization-aware training (default: 3)")
    parser.add_argument("--method", action="append", choices=(*METHODS, RAW), help="only this method; repeatable")
    parser.add_argument("--late", action="store_true", help="also train the plain network, then repair its file")
    args = parser.parse_args(words)
    torch.set_num_threads(1)  # the layers are small: a second thread gains little
    try:
        print(run(args))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"qat: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(f"\nqat: stopped; the same command continues after the last step in {args.output}") from None


if __name__ == "__main__":
    main()
