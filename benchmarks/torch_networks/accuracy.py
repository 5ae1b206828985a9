"""Runs a trained network through the whole flow: SQNR of its outputs against float, and correct answers of its task."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

import qdqgraph
from benchmarks.placement_table import judged
from qdqgraph import torch as side
from qdqgraph.calibration.agreement import agreement
from qdqgraph.torch.training.sensitivity import units

from . import trained

METHODS = ("max", "percentile", "mse", "entropy")
COLUMNS = (
    *("network", "method", "what", "median dB", "pooled dB", "right answers", "boundary", "float of it"),
    *("pools", "findings"),
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Flow:
    """One network and its data.

    Attributes:
        bare: outputs of the float network for the evaluation inputs; ranked: the same for the ranking inputs.
    """

    name: str
    network: nn.Module
    data: trained.Data
    folder: Path
    judge: Path
    bare: list[list[np.ndarray]]
    ranked: list[list[np.ndarray]]

    @classmethod
    def of(cls, name: str, wheels: Path, photos: Path, folder: Path, judge: Path) -> Flow:
        """The float network with its BatchNorms folded."""
        network, data = trained.network(name, wheels), trained.data(name, photos)
        side.fold_norms(network, data.judge[0])
        found = (trained.answers(network, inputs) for inputs in (data.judge, data.rank))
        return cls(name, network, data, folder, judge, *found)

    def quantized(self, method: str, *, link: bool) -> tuple[nn.Module, side.Linked | None]:
        """A quantized and calibrated copy."""
        model = copy.deepcopy(self.network)
        side.quantize(model)
        linked = side.link(model, self.data.judge[0]) if link else None
        side.calibrate(model, self.data.calibrate, method=method, progress=False)
        return model, linked

    def agreement(self, model: nn.Module) -> float:
        """SQNR in dB on the ranking inputs."""
        return pooled(self.ranked, trained.answers(model, self.data.rank))

    def ranking(self, model: nn.Module) -> side.Sensitivity:
        """The cost of the network's units: measured on the first model, then read from its file.

        An interrupted measurement continues only with the model that it started with.
        """
        file = self.folder / f"{self.name}.json"
        if file.exists():
            kept = side.Sensitivity.read(file)
            if {unit.layers for unit in kept.units} == set(units(model)):
                return kept
        return side.sensitivity(model, self.agreement, file=file)

    def row(self, method: str, what: str, model: nn.Module) -> str:
        """One line of the table."""
        found = trained.answers(model, self.data.judge)
        each = [pooled([ours], [theirs]) for ours, theirs in zip(self.bare, found, strict=True)]
        file = self.folder / f"{self.name}.{method}.{what.replace(',', '').replace(' ', '-')}.onnx"
        written = side.export(model, self.data.judge[0], file, force=True)
        codes = [f.code for f in qdqgraph.check(written, qdqgraph.rules()) if f.code[3] in "12"]
        built = judged(self.judge, [file])[0]
        cells = [self.name, method, what, f"{statistics.median(each):.2f}", f"{pooled(self.bare, found):.2f}"]
        cells += [self.right(found)]
        keys = ("boundary_bytes", "float_boundary", "pools")
        cells += [f"{built[key]:,}" for key in keys] if built["ok"] else ["no build", "-", "-"]
        cells += [", ".join(f"{code} x{codes.count(code)}" for code in sorted(set(codes))) or "none"]
        return "| " + " | ".join(cells) + " |"

    def right(self, found: list[list[np.ndarray]]) -> str:
        """The number of correct answers if the data has labels, else "-"."""
        if self.data.labels:
            right = sum(int(y[0].argmax()) == label for y, label in zip(found, self.data.labels, strict=True))
            return f"{right} of {len(found)}"
        return "-"


def pooled(reference: list[list[np.ndarray]], found: list[list[np.ndarray]]) -> float:
    """SQNR in dB of the worst output, over all inputs."""
    return min(agreement([r[i] for r in reference], [f[i] for f in found]).sqnr for i in range(len(reference[0])))


def rows(flow: Flow, method: str, top: int, epochs: int, say: Say) -> Iterator[str]:
    """The lines of one method, with `top` units disabled and `epochs` of training; 0 for none.

    Units are ranked once per network, with the first method's calibration.
    """
    plain, _ = flow.quantized(method, link=False)
    yield flow.row(method, "plain", plain)
    model, linked = flow.quantized(method, link=True)
    assert linked is not None
    say(f"{flow.name}, {method}: {len(linked.groups)} groups, {len(linked.added)} added")
    for sentence in (*linked.unmapped, *(f"{f.code} {f.message}" for f in linked.left)):
        say(f"{flow.name}, {method}: {sentence}")
    yield flow.row(method, "linked", model)
    if top:
        without = copy.deepcopy(model)
        layers, _ = side.apply_sensitivity(without, flow.ranking(model), top=top, example=flow.data.judge[0])
        side.calibrate(without, flow.data.calibrate, method=method, progress=False)
        say(f"{flow.name}, {method}: disabled {', '.join(layers)}")
        yield flow.row(method, f"linked, {top} units off", without)
    if epochs:
        side.finetune(
            model,
            flow.network,
            flow.data.calibrate,
            training=side.Training(epochs=epochs, rate=1e-5),
            evaluate=flow.agreement,
            progress=lambda line: say(f"{flow.name}, {method}: {line}"),
        )
        yield flow.row(method, "fine-tuned", model)
