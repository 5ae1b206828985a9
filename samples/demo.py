"""The demo: trains a small network, quantizes it, repairs its Q/DQ, and scores float, Q/DQ and fixed.

Run it with `make demo`, or `python samples/demo.py [--folder DIR] [--epochs N]`. The steps that repair are the real
commands `qdqgraph check` and `qdqgraph fix`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from samples import digits, networks, quantize

BATCH = 50
"""Images per training step and per run of the exported files, whose shapes are fixed; divides each part of the data."""
CALIBRATION = 500
"""Images for calibration, from the training part."""


def train(network: nn.Module, data: digits.Split, epochs: int) -> None:
    """Trains with cross-entropy, AdamW and one learning-rate cycle on randomly shifted images; sets eval mode."""
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=epochs * steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).view(-1, BATCH):
            shift = torch.randint(-2, 3, (2,)).tolist()
            logits = network(images[chosen].roll(shift, (2, 3)))
            loss = nn.functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    network.eval()


def logits(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of the file in ONNX Runtime on the CPU, [n, classes]."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = np.split(images, len(images) // BATCH)
    return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])


def sqnr(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Signal-to-quantization-noise ratio in dB, over all logits together."""
    noise = float(((reference - other) ** 2).sum())
    return 10 * float(np.log10((reference**2).sum() / max(noise, 1e-30)))


def scores(files: dict[str, Path], test: digits.Split) -> str:
    """A table of accuracy, predictions that differ from float's, and SQNR; the first file is the float one."""
    answers = {name: logits(path, test.images) for name, path in files.items()}
    reference = next(iter(answers.values()))
    lines = [f"{'':8}{'accuracy':>10}{'changed predictions':>28}{'SQNR of the logits':>22}"]
    for name, answer in answers.items():
        accuracy = (answer.argmax(1) == test.labels).mean()
        line = f"{name:8}{accuracy:>9.2%}"
        if answer is not reference:
            moved = int((answer.argmax(1) != reference.argmax(1)).sum())
            line += f"{f'{moved} of {len(answer)}':>29}{sqnr(reference, answer):>19.1f} dB"
        lines.append(line)
    return "\n".join(lines)


def command(*words: str | Path, accept: tuple[int, ...] = (0,)) -> None:
    """Runs `qdqgraph` with this interpreter and shows its output.

    Raises:
        SystemExit: the exit code is not one of `accept`.
    """
    print("\n$ qdqgraph", *words, flush=True)
    code = subprocess.run([sys.executable, "-m", "qdqgraph", *map(str, words)], check=False).returncode
    if code not in accept:
        raise SystemExit(f"demo: qdqgraph ended with exit code {code}")


def prepare(folder: Path, epochs: int) -> tuple[dict[str, Path], digits.Split]:
    """Trains, quantizes and exports; returns the paths of float.onnx, qdq.onnx and fixed.onnx, and the test images."""
    start = time.monotonic()

    def done(text: str) -> None:
        nonlocal start
        print(f"{text} ({time.monotonic() - start:.0f} s)", flush=True)
        start = time.monotonic()

    files = {name: folder / f"{name}.onnx" for name in ("float", "qdq", "fixed")}
    data, test = digits.load()
    done(f"read {len(data.images)} images to train on, {len(test.images)} to test on")
    torch.set_num_threads(1)  # the layers are small: a second thread gains little and slows a busy machine
    torch.manual_seed(0)
    network = networks.Digits()
    train(network, data, epochs)
    weights = sum(p.numel() for p in network.parameters())
    done(f"trained {weights:,} weights for {epochs} epochs")
    networks.fold_norms(network)
    example: Tensor = torch.from_numpy(test.images[:BATCH])
    quantize.export(network, example, files["float"], network.outputs)
    quantize.swap(network, "histogram", "both")
    batches = np.split(data.images[:CALIBRATION], CALIBRATION // BATCH)
    quantize.calibrate(network, map(torch.from_numpy, batches), "percentile")
    quantize.export(network, example, files["qdq"], network.outputs)
    done(f"quantized with pytorch-quantization: {CALIBRATION} images, histogram calibrator, exported")
    return files, test


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, quantize, repair and score a small network.")
    parser.add_argument("--folder", type=Path, default=Path("build/demo"), help="for the files (default: build/demo)")
    parser.add_argument("--epochs", type=int, default=16, help="passes over the training images (default: 16)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    files, test = prepare(args.folder, args.epochs)
    command("check", files["qdq"], accept=(0, 1))
    command("fix", files["qdq"], "-o", files["fixed"], "--force")
    print(f"\n{len(test.images)} test images, ONNX Runtime on the CPU:")
    print(scores({"float": files["float"], "Q/DQ": files["qdq"], "fixed": files["fixed"]}, test))


if __name__ == "__main__":
    main()
