"""Weights that a module computes anew in every forward: quantized like any other, constants of the exported graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import qdqgraph
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.torch import calibrate, export, fold_norms, link, load, quantize, quantizers, save

X = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5


class Twice(nn.Module):
    """Any function of a weight."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def custom(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Twice())
    return layer


KINDS: dict[str, Callable[[Any], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "a function": custom,
    "weight_norm of hooks": nn.utils.weight_norm,
    "spectral_norm of hooks": nn.utils.spectral_norm,
}


def build(kind: str) -> Any:
    torch.manual_seed(0)
    of = KINDS[kind]
    layers = of(nn.Conv2d(4, 8, 3, padding=1)), nn.ReLU(), of(nn.ConvTranspose2d(8, 4, 2, 2)), of(nn.Linear(16, 3))
    return nn.Sequential(*layers).eval()


def state(layer: nn.Module) -> Any:
    return type(layer), set(vars(layer)), list(layer._parameters), list(layer._forward_pre_hooks)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_computed_weight_is_quantized_and_a_constant_of_the_graph(kind: str, tmp_path: Path) -> None:
    model = build(kind)
    with torch.no_grad():
        expected = model(X)
    assert fold_norms(model, X) == ()
    assert quantize(model).replaced == ("0", "2", "3")
    for quantizer in quantizers(model).values():
        quantizer.disable()
    with torch.no_grad():
        torch.testing.assert_close(model(X), expected)
    for quantizer in quantizers(model).values():
        quantizer.enable()
    before = [state(layer) for layer in model]
    assert not link(model, X).unmapped
    assert not calibrate(model, [X]).unseen
    written = export(model, X, tmp_path / "m.onnx")
    assert [p.kind for p in pairs(Graph(written))].count("weight") == 3
    assert not qdqgraph.check(written, qdqgraph.rules())
    assert [state(layer) for layer in model] == before
    model.train()(X).sum().backward()
    assert all(p.grad is not None for p in model[0].parameters())


def test_a_parametrized_model_is_saved_and_loaded(tmp_path: Path) -> None:
    model = build("weight_norm")
    quantize(model)
    calibrate(model, [X])
    save(model, tmp_path / "state.pt")
    fresh = build("weight_norm")
    load(fresh, tmp_path / "state.pt")
    with torch.no_grad():
        assert torch.equal(fresh(X), model(X))
    parametrize.remove_parametrizations(fresh[0], "weight")
    with torch.no_grad():
        torch.testing.assert_close(fresh(X), model(X))
