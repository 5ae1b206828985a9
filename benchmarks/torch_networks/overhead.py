"""The time of a linked model's forward against that of the plainly quantized one."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from qdqgraph import torch as side
from qdqgraph.torch.calls.example import output_tensors
from qdqgraph.torch.quantizer.toolkit import qnn

from . import architectures

NAMES = ("ul:yolov8n", "tm:resnet18", "tm:mobilenetv2_100", "tm:vit_tiny_patch16_224")
COLUMNS = (
    *("network", "input", "float ms", "library ms", "quantized ms", "linked ms", "quantized / library"),
    *("linked / library", "linked / quantized", "quantizers added"),
)
ROUNDS = 20


def _milliseconds(models: list[nn.Module], x: Tensor) -> list[float]:
    """The shortest of several forwards of each model, in turn: the machine's load is the same for all."""
    best = [float("inf")] * len(models)
    with torch.no_grad():
        for _ in range(ROUNDS):
            for i, model in enumerate(models):
                start = time.perf_counter()
                model(x)
                best[i] = min(best[i], time.perf_counter() - start)
    return [1000 * t for t in best]


def row(name: str, edge: int) -> str:
    """One line of the table: a batch of one, on one core.

    *library* is the model with the quantizers of pytorch-quantization itself, *quantized* as `quantize` leaves it.
    """
    bare = architectures.network(name)
    x = nn.functional.interpolate(architectures.image(edge, 0), size=(edge, edge))
    side.fold_norms(bare, x)
    plain, linked = copy.deepcopy(bare), copy.deepcopy(bare)
    side.quantize(plain)
    side.quantize(linked)
    done = side.link(linked, x)
    for model in (plain, linked):
        side.calibrate(model, [x], progress=False)
    library = copy.deepcopy(plain)
    for quantizer in side.quantizers(library).values():
        quantizer.__class__ = qnn.TensorQuantizer
    with torch.no_grad():
        assert all(map(torch.equal, output_tensors(library(x)), output_tensors(plain(x))))
    times = _milliseconds([bare, library, plain, linked], x)
    cells = [name, f"{edge} x {edge}", *(f"{t:.1f}" for t in times), f"{times[2] / times[1]:.2f}"]
    cells += [f"{times[3] / times[1]:.2f}", f"{times[3] / times[2]:.2f}", str(len(done.added))]
    return "| " + " | ".join(cells) + " |"
