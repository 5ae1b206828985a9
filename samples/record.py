"""The output folder of `qat.py`: the files and scores of finished steps, so that the next run continues after them."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import qdqgraph
from qdqgraph.model.writing.texts import write_text
from qdqgraph.rulekit import Graph, pairs
from samples import demo, digits

BATCH = 200
"""Batch size in PyTorch; large, to amortize the overhead of operator calls."""
Answers = NDArray[np.uint8]
"""The class that a network predicts for each test image."""


@dataclass(frozen=True)
class Batches:
    """Images and labels in batches; `shuffled` again for each pass."""

    data: digits.Split
    shuffled: bool = False

    def __len__(self) -> int:
        return math.ceil(len(self.data.images) / BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.data.images)) if self.shuffled else torch.arange(len(self.data.images))
        for chosen in torch.split(order, BATCH):
            yield torch.from_numpy(self.data.images[chosen.numpy()]), torch.from_numpy(self.data.labels[chosen.numpy()])


@dataclass(frozen=True)
class Made:
    """The result of a step: the network, None if the step has only a file; and a note for the report."""

    model: nn.Module | None
    note: str = ""


@dataclass(frozen=True)
class Score:
    """One network on the test images.

    Attributes:
        accuracy: correct predictions in PyTorch, in percent; in ONNX Runtime if the step has only a file.
        exported: correct predictions of the file in ONNX Runtime, in percent.
        moved: images for which the file and PyTorch predict different classes.
        pairs: activation pairs in the file; scales: distinct scales among them.
        findings: `check`'s findings in scales and placement, counted by code.
        seconds: processor time of the step, including scoring.
        note: further remarks.
    """

    accuracy: float
    exported: float
    moved: int
    pairs: int
    scales: int
    findings: dict[str, int]
    seconds: float
    note: str


@dataclass(frozen=True)
class Record:
    """A folder of finished steps: for each NAME.json with its score, NAME.npy with its predictions, NAME.onnx.

    Attributes:
        say: prints a line.
    """

    folder: Path
    test: Batches
    say: Callable[[str], None]

    def path(self, name: str, suffix: str) -> Path:
        """A file of a step."""
        return self.folder / f"{name}.{suffix}"

    def begin(self, settings: dict[str, object]) -> None:
        """Creates the folder, or checks that it was created with the same settings.

        Raises:
            ValueError: it was created with other settings, so its results belong to another run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "settings.json"
        if file.exists() and json.loads(file.read_text()) != settings:
            raise ValueError(
                f"{self.folder} holds a run with {file.read_text()}: remove it, or give another folder with -o"
            )
        if not file.exists():
            write_text(json.dumps(settings), file)

    def step(self, name: str, make: Callable[[Path], Made]) -> Score:
        """The score of a step; the step runs only if it has not finished before. `make` writes the ONNX file."""
        file = self.path(name, "json")
        known = file.exists()
        if not known:
            start = time.process_time()
            made = make(self.path(name, "onnx"))
            score = self._scored(name, made, start)
            write_text(json.dumps(asdict(score), indent=1), file, force=True)
        score = Score(**json.loads(file.read_text(encoding="utf-8")))
        self.say(f"{name}: {line(score)}{' (kept)' if known else ''}")
        return score

    def answers(self, name: str) -> Answers:
        """The predictions of a finished step's network for the test images."""
        found: Answers = np.load(self.path(name, "npy"))
        return found

    def right(self, name: str) -> NDArray[np.bool_]:
        """Which test images a finished step's network classifies correctly."""
        return self.answers(name) == self.test.data.labels

    def difference(self, name: str, reference: str) -> tuple[float, float]:
        """Difference in percentage points between two steps, and its standard error.

        Both use the same images, so only images that one of them gets right count; the difference is much more precise
        than either accuracy.
        """
        ours, theirs = self.right(name), self.right(reference)
        change = ours.astype(float) - theirs.astype(float)
        return 100 * float(change.mean()), 100 * float(change.std()) / math.sqrt(len(change))

    def _scored(self, name: str, made: Made, start: float) -> Score:
        model = onnx.load(self.path(name, "onnx"))
        file = demo.logits(self.path(name, "onnx"), self.test.data.images).argmax(1).astype(np.uint8)
        own = file if made.model is None else answered(made.model, self.test)
        np.save(self.path(name, "npy"), own)
        found = [p for p in pairs(Graph(model)) if p.kind == "activation"]
        codes = [f.code for f in qdqgraph.check(model)] if found else []
        labels = self.test.data.labels
        return Score(
            100 * float((own == labels).mean()),
            100 * float((file == labels).mean()),
            int((own != file).sum()),
            len(found),
            len({p.scale.tobytes() for p in found if p.scale is not None}),
            dict(Counter(code for code in codes if code[3] in "12")),
            time.process_time() - start,
            made.note,
        )


def answered(model: nn.Module, batches: Batches) -> Answers:
    """The class that a network predicts for each image."""
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(images).argmax(1).numpy() for images, _ in batches]).astype(np.uint8)


def accuracy(model: nn.Module, batches: Batches) -> float:
    """Correct predictions, in percent."""
    return 100 * float((answered(model, batches) == batches.data.labels).mean())


def line(score: Score) -> str:
    """A score as one line."""
    found = ", ".join(f"{code} x{count}" for code, count in sorted(score.findings.items())) or "none"
    parts = [
        f"{score.accuracy:.2f} %, in ONNX Runtime {score.exported:.2f} % ({score.moved} images predicted differently)",
        f"{score.pairs} activation pairs, {score.scales} scales; findings in scales and placement: {found}",
        f"{score.seconds:.0f} s",
        score.note,
    ]
    return "; ".join(part for part in parts if part)
