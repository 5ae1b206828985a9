"""The PyTorch side from end to end: train, quantize, link, calibrate, find what hurts, fine-tune, export, and score.

    python samples/qat.py --data FOLDER -o build/qat

prints, for each calibration method, the accuracy on 10,000 test images of: the float network, plain quantization,
linked quantization, the same without its most sensitive units, and after quantization-aware training. About half an
hour on two cores; the trained network is kept in the output folder, so a second run begins with it.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import qdqgraph
from qdqgraph import torch as side
from samples import demo, digits, fashion, networks

METHODS = ("max", "percentile", "mse", "entropy")
BATCH = 50
CALIBRATION = 1000
"""Images for calibration, from the training part."""
JUDGED = 2000
"""Other images of the training part, by which units are ranked and the best epoch is chosen: the test images stay
unseen."""
TUNED = 20000
"""Images of an epoch of quantization-aware training."""
TOP = 3
"""Units that are switched off."""


@dataclass(frozen=True)
class Batches:
    """Images and labels in batches; `shuffled` anew for each pass."""

    data: digits.Split
    shuffled: bool = False

    def __len__(self) -> int:
        return len(self.data.images) // BATCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.data.images)) if self.shuffled else torch.arange(len(self.data.images))
        for chosen in order[: len(self) * BATCH].view(-1, BATCH):
            yield torch.from_numpy(self.data.images[chosen.numpy()]), torch.from_numpy(self.data.labels[chosen.numpy()])


@dataclass(frozen=True)
class Parts:
    """The images by what they are for."""

    train: digits.Split
    calibrate: Batches
    judge: Batches
    tune: Batches
    test: Batches


def parts(train: digits.Split, test: digits.Split) -> Parts:
    """Shares the images out."""

    def cut(first: int, last: int) -> digits.Split:
        return digits.Split(train.images[first:last], train.labels[first:last])

    end = CALIBRATION + JUDGED
    tune = Batches(cut(end, end + TUNED), shuffled=True)
    return Parts(train, Batches(cut(0, CALIBRATION)), Batches(cut(CALIBRATION, end)), tune, Batches(test))


def accuracy(model: nn.Module, batches: Batches) -> float:
    """Right answers, in percent."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in batches)
    return 100 * right / (len(batches) * BATCH)


def trained(data: digits.Split, folder: Path, epochs: int) -> nn.Module:
    """The float network with its BatchNorms folded, from the folder where it was trained before."""
    network = networks.Digits()
    file = folder / "float.pt"
    if file.exists():
        networks.fold_norms(network.eval())
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()
    torch.manual_seed(0)
    network = networks.Digits()
    demo.train(network, data, epochs)
    side.fold_norms(network, torch.from_numpy(data.images[:BATCH]))
    torch.save(network.state_dict(), file)
    return network


@dataclass(frozen=True)
class Row:
    """Accuracies in percent of one calibration method."""

    method: str
    plain: float
    linked: float
    without: float
    tuned: float


def flow(method: str, network: nn.Module, data: Parts, folder: Path, epochs: int, say: Callable[[str], None]) -> Row:
    """One method, from the float network to the fine-tuned file."""
    example = torch.from_numpy(data.test.data.images[:BATCH])

    def judged(model: nn.Module) -> float:
        return accuracy(model, data.judge)

    plain = copy.deepcopy(network)
    side.quantize(plain)
    side.calibrate(plain, data.calibrate, method=method)
    linked = copy.deepcopy(network)
    side.quantize(linked)
    done = side.link(linked, example)
    report = side.calibrate(linked, data.calibrate, method=method)
    say(f"{method}: {len(done.groups)} groups, {len(done.added)} quantizers added; {report}")
    side.save(linked, folder / f"{method}.pt")
    written = side.export(linked, example, folder / f"{method}.onnx")
    findings = [f for f in qdqgraph.check(written, qdqgraph.rules()) if f.code[3] in "12"]
    say(f"{method}: {len(findings)} findings in scales or placement after export")
    ranked = side.sensitivity(linked, judged, file=folder / f"{method}-sensitivity.json")
    without = copy.deepcopy(linked)
    layers, _ = side.apply_sensitivity(without, ranked, top=TOP, example=example)
    side.calibrate(without, data.calibrate, method=method)
    say(f"{method}: switched off {', '.join(layers)}")
    tuned = copy.deepcopy(linked)
    side.finetune(
        tuned,
        network,
        data.tune,
        training=side.Training(epochs=epochs, rate=1e-3),
        evaluate=judged,
        loss=lambda found, batch: nn.functional.cross_entropy(found, batch[1]),
        checkpoint=folder / f"{method}-qat.pt",
        progress=lambda line: say(f"{method}: {line}"),
    )
    side.export(tuned, example, folder / f"{method}-qat.onnx")
    models = (plain, linked, without, tuned)
    return Row(method, *(accuracy(model, data.test) for model in models))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, quantize, link, calibrate, fine-tune and score a network.")
    parser.add_argument("--data", type=Path, default=fashion.FOLDER, help=f"the images (default: {fashion.FOLDER})")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/qat"), help="for files (default: build/qat)")
    parser.add_argument("--epochs", type=int, default=6, help="of training the float network (default: 6)")
    parser.add_argument("--tune", type=int, default=6, help="epochs of quantization-aware training (default: 6)")
    parser.add_argument("--method", action="append", choices=METHODS, help="only this one; may be given again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {line}", flush=True)

    try:
        data = parts(*fashion.load(args.data))
    except FileNotFoundError as error:
        raise SystemExit(f"qat: {error}") from error
    args.output.mkdir(parents=True, exist_ok=True)
    network = trained(data.train, args.output, args.epochs)
    score = accuracy(network, data.test)
    say(f"float: {score:.2f} %")
    rows = [flow(m, network, data, args.output, args.tune, say) for m in args.method or METHODS]
    print(table(score, rows))


def table(score: float, rows: list[Row]) -> str:
    """The accuracies, one method a line."""
    lines = [f"| method | float | plain | linked | linked, {TOP} units off | fine-tuned |", "| --- " * 6 + "|"]
    for row in rows:
        values = (score, row.plain, row.linked, row.without, row.tuned)
        lines.append(f"| {row.method} | " + " | ".join(f"{v:.2f}" for v in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
