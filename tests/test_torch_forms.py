"""Models in other forms than plain modules: graphs of torch.fx, tensors changed in place, weights that are made anew,
recurrent layers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import onnx
import torch
from test_torch_export import answers
from test_torch_link import EXPORTERS, X, dynamo_or_skip
from torch import Tensor, fx, nn
from torch.nn import functional

import qdqgraph
from qdqgraph.torch import Linked, calibrate, export, link, quantize


class Block(nn.Module):
    """A skip and a Concat, which ask for quantizers of calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = torch.relu(self.b(x) + x)
        out: Tensor = self.c(torch.cat([y, functional.max_pool2d(y, 3, 1, 1)], 1))
        return out


class Outer(nn.Module):
    """A part of another network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.last = inner, nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.inner(x))
        return out


def linked(model: nn.Module, dynamo: bool = False) -> Linked:
    """What `link` did; the model is calibrated then."""
    model.eval()
    quantize(model)
    done = link(model, X, dynamo=dynamo)
    assert not calibrate(model, [X]).unseen
    return done


def agrees(model: nn.Module, written: onnx.ModelProto) -> bool:
    """Whether the file computes what the fake-quantized model computes, and `check` finds nothing in it."""
    with torch.no_grad():
        expected = model(X).numpy()
    close = np.allclose(answers(written, X), expected, atol=1e-5 * float(np.abs(expected).max()))
    return close and not qdqgraph.check(written, qdqgraph.rules())


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize("probed", EXPORTERS)
@pytest.mark.parametrize("form", ["fx", "inside"])
def test_a_graph_of_fx_keeps_the_pairs_of_its_calls_in_every_export(
    form: str, probed: bool, dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(probed or dynamo)
    graph = fx.symbolic_trace(Block())
    model = graph if form == "fx" else Outer(graph)
    inside = "" if form == "fx" else "inner."
    calls = ("add_0._input1", "cat_0._input0", "max_pool2d_0._input0", "cat_0._input1")
    assert linked(model, probed).added == tuple(f"{inside}_functional.{call}_quantizer" for call in calls)
    written = export(model, X, tmp_path / "m.onnx", dynamo=dynamo)
    assert agrees(model, written)
    assert {w.name for w in written.graph.initializer} >= {f"{inside}a.weight", f"{inside}c.bias"}


@pytest.mark.parametrize("form", ["fx", "inside"])
def test_a_copy_of_a_graph_of_fx_quantizes_its_calls(form: str, tmp_path: Path) -> None:
    graph = fx.symbolic_trace(Block())
    model = graph if form == "fx" else Outer(graph)
    assert linked(model).added
    copied: Any = copy.deepcopy(copy.deepcopy(model))
    assert torch.equal(copied(X), model(X))
    assert agrees(copied, export(copied, X, tmp_path / "m.onnx"))
    (copied if form == "fx" else copied.inner)._functional.add_0._input1_quantizer.disable()
    assert not torch.equal(copied(X), model(X))
