"""Models in other forms than plain modules: graphs of torch.fx, tensors changed in place, weights that are made anew,
recurrent layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import onnx
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import qdqgraph
from qdqgraph.torch import Config, Linked, Operator, calibrate, export, link, quantize, quantizers
from qdqgraph.torch.quantizer.quantizer import qnn
from tests.support.torch_networks import EXPORTERS, X, answers, dynamo_or_skip


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


class InPlace(nn.Module):
    """A residual add that changes a tensor which the forward knows by another name as well.

    Args:
        change: what makes of (branch, skip) the tensors that are read on.
    """

    def __init__(self, change: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.change = change
        self.a, self.b, self.c = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = torch.relu(self.a(x))
        return torch.stack([self.c(found) for found in self.change(self.b(skip), skip)]).sum(0)


def _branch_kept(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    kept = out
    out += x
    return torch.relu(out), kept


def _branch_kept_alone(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    kept = out
    out += x
    return (torch.relu(kept),)


def _in_a_list(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    kept = [out]
    kept[0] += x
    return (torch.relu(out),)


def _skip_kept(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    kept = x
    x += out
    return torch.relu(x), kept


def _by_method(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    x.add_(out)
    return torch.relu(x), x


def _skip_read_on(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    out += x
    return torch.relu_(out), x


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize(
    "change", [_branch_kept, _branch_kept_alone, _in_a_list, _skip_kept, _by_method, _skip_read_on]
)
def test_a_tensor_that_is_changed_in_place_is_the_same_under_all_its_names(
    change: Callable[[Tensor, Tensor], tuple[Tensor, ...]], dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    model = InPlace(change).eval()
    with torch.no_grad():
        real = model(X)
    done = linked(model, dynamo)
    assert done.added and not done.unmapped and not done.left
    assert agrees(model, export(model, X, tmp_path / "m.onnx", dynamo=dynamo))
    with torch.no_grad():
        assert float((model(X) - real).abs().max()) < 0.02 * float(real.abs().max()), "another function"


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "add": lambda x: x.add_(0.5),
    "mul": lambda x: x.__imul__(2.0),
    "clamp": lambda x: x.clamp_(0.1, 0.3),
    "relu": lambda x: functional.relu(x, inplace=True),
    "relu6": lambda x: functional.relu6(x, True),
    "leaky_relu": lambda x: functional.leaky_relu_(x, 0.1),
    "hardtanh": lambda x: functional.hardtanh_(x, -0.1, 0.2),
    "sigmoid": lambda x: torch.sigmoid_(x),
    "silu": lambda x: nn.SiLU(inplace=True)(x),
}
"""Calls that change a tensor in place, by operator."""


@pytest.mark.parametrize("operator", CHANGES)
def test_a_call_with_a_quantizer_still_changes_its_operand_in_place(operator: str) -> None:
    def change(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        kept = out
        assert CHANGES[operator](out) is out
        return out, kept, x

    model = InPlace(change).eval()
    real = model(X)
    assert quantize(model, Config(operators=(Operator(operator),)), X).inserted
    for quantizer in quantizers(model).values():
        quantizer.disable()
    assert torch.equal(model(X), real)


def test_a_tensor_that_is_changed_in_place_is_trained_by_what_its_quantizer_got() -> None:
    def own(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        kept = out
        out *= x
        return out, kept

    def apart(out: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        out = out * x
        return out, out

    gradients = []
    for change in (own, apart):
        model = InPlace(change)
        quantize(model, Config(operators=(Operator("mul"),)), X)
        calibrate(model, [X])
        torch.autograd.backward(model(X).square().mean())
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


class Recurrent(nn.Module):
    """An LSTM between Linears."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.lstm = nn.Linear(8, 8), nn.LSTM(8, 6, batch_first=True, **options)
        self.last = nn.Linear(12 if options.get("bidirectional") else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.lstm(torch.relu(self.first(x)))[0])
        return out


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_an_lstm_is_exported_and_its_gates_are_named_as_what_stays_in_float(dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    x = torch.rand(2, 5, 8)
    model = Recurrent(num_layers=2, bidirectional=True).eval()
    quantize(model)
    done = link(model, x, dynamo=dynamo)
    gates = "the gates of lstm (QuantLSTM) stay in float: pytorch-quantization quantizes only"
    assert [sentence.startswith(gates) for sentence in done.unmapped] == [True]
    assert {f.code for f in done.left} == {"QDQ201", "QDQ204"}
    calibrate(model, [x])
    written = export(model, x, tmp_path / "m.onnx", dynamo=dynamo)
    with torch.no_grad():
        np.testing.assert_allclose(answers(written, x), model(x).numpy(), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_an_lstm_computes_what_the_librarys_own_computes(options: dict[str, Any]) -> None:
    model = Recurrent(**options).eval()
    quantize(model)
    x = torch.rand(2, 5, 8)
    calibrate(model, [x])
    ours = model(x)
    model.lstm.__class__ = qnn.QuantLSTM
    assert torch.equal(model(x), ours)


def test_a_packed_sequence_comes_back_in_its_own_order() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.LSTM(4, 3, batch_first=True)).eval()
    packed = pack_padded_sequence(torch.rand(3, 5, 4), torch.tensor([2, 5, 3]), True, enforce_sorted=False)
    states = torch.rand(1, 3, 3), torch.rand(1, 3, 3)
    expected, last = model[0](packed, states)
    quantize(model)
    for quantizer in quantizers(model).values():
        quantizer.disable()
    found, own = model[0](packed, states)
    for a, b in (
        (pad_packed_sequence(found)[0], pad_packed_sequence(expected)[0]),
        (own[0], last[0]),
        (own[1], last[1]),
    ):
        torch.testing.assert_close(a, b)
