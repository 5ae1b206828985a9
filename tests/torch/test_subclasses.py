"""Layers of other classes: those that derive from a layer of torch, and those that a configuration names."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor, nn
from torch.nn import functional

import qdqgraph
from qdqgraph.errors import TorchError
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.torch import Config, calibrate, export, fold_norms, link, load, quantize, quantizers, save
from qdqgraph.torch.quantizer.toolkit import qnn, quant_modules
from tests.support.torch_networks import EXPORTERS, answers, dynamo_or_skip

IMAGE = torch.rand(1, 4, 9, 9, generator=torch.Generator().manual_seed(3))


def padded(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, groups: int) -> Tensor:
    edge = [max(((n + stride[0] - 1) // stride[0] - 1) * stride[0] + weight.shape[-1] - n, 0) for n in x.shape[-2:]]
    x = functional.pad(x, [edge[1] // 2, edge[1] - edge[1] // 2, edge[0] // 2, edge[0] - edge[0] // 2])
    return functional.conv2d(x, weight, bias, stride, (0, 0), 1, groups)


class Same(nn.Conv2d):
    """TensorFlow's padding, computed in a function of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return padded(x, self.weight, self.bias, self.stride, self.groups)


class Standardized(nn.Conv2d):
    """A weight that the forward computes, with a trained gain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, self.gain.view(-1), training=True
        ).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Wrapped(nn.Conv2d):
    """With a norm and an activation."""

    def __init__(self, *args: Any, norm: nn.Module | None = None, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm, self.activation = norm, activation

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


class Casting(nn.Linear):
    """As timm's classifiers cast their weight."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight.to(dtype=input.dtype), bias=self.bias)


class Own(nn.Module):
    """Derives from no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.rand(4, 4, 3, 3) - 0.5)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return functional.conv2d(x * scale, self.kernel, padding=1)


class OwnNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own, self.last = Own(), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.own(x, 2.0))
        return out


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = Same(4, 6, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.a = Standardized(6, 6, 3, padding=1)
        self.b = Wrapped(6, 6, 1, bias=False, norm=nn.BatchNorm2d(6), activation=functional.relu)
        self.head = Casting(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        x = functional.relu(self.a(x) + x)
        out: Tensor = self.head(self.b(x).mean((2, 3)))
        return out


def network() -> Network:
    model = Network()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_padding_computed_weights_norms_and_activations_are_kept_and_their_convolution_is_quantized(
    dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    model = network()
    with torch.no_grad():
        plain = model(IMAGE)
    assert fold_norms(model, IMAGE) == ("norm", "b.norm")
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGE), plain)
    done = quantize(model)
    assert done.replaced == ("stem", "a", "b", "head") and not done.left
    assert done.treated == {"stem": "Conv2d", "a": "Conv2d", "b": "Conv2d", "head": "Linear"}
    assert isinstance(model.stem, Same) and isinstance(model.b, Wrapped)
    linked = link(model, IMAGE, dynamo=dynamo)
    assert not linked.unmapped and not linked.left
    assert not calibrate(model, [IMAGE]).unseen
    with torch.no_grad():
        expected = model(IMAGE)
    assert not torch.equal(expected, plain)
    torch.testing.assert_close(expected, plain, atol=0.05, rtol=0.1)
    file = export(model, IMAGE, tmp_path / "m.onnx", dynamo=dynamo)
    np.testing.assert_allclose(answers(file, IMAGE), expected.numpy(), atol=0.02)
    graph = Graph(file)
    assert sorted(p.kind for p in pairs(graph)).count("weight") == 4
    assert not [f for f in qdqgraph.check(file, qdqgraph.rules()) if f.code[3] in "1234"]


class PaddedStandardized(Standardized):
    """A computed weight after padding, as in the first layer of a network."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (1, 0, 1, 0)))


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_a_computed_weight_in_the_first_layer_does_not_cost_its_input_quantizer(dynamo: bool, tmp_path: Path) -> None:
    """The run that computes the weight reads the same input tensor as the export."""
    dynamo_or_skip(dynamo)
    torch.manual_seed(0)
    model = nn.Sequential(PaddedStandardized(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 1)).eval()
    quantize(model)
    link(model, IMAGE, dynamo=dynamo)
    calibrate(model, [IMAGE])
    file = export(model, IMAGE, tmp_path / "m.onnx", dynamo=dynamo)
    kernels = [layer.precision for layer in qdqgraph.forecast(file).layers if layer.kind == "Convolution"]
    assert kernels == ["INT8", "INT8"], "the pair may be before the Pad, which fuses"
    with torch.no_grad():
        np.testing.assert_allclose(answers(file, IMAGE), model(IMAGE).numpy(), atol=0.02)


def test_gradients_reach_the_parameters_of_a_computed_weight() -> None:
    model = network()
    quantize(model)
    calibrate(model, [IMAGE])
    model(IMAGE).sum().backward()
    assert model.a.gain.grad is not None and model.a.gain.grad.abs().sum() > 0


def test_copies_pickles_and_states_keep_the_class(tmp_path: Path) -> None:
    model = network()
    quantize(model)
    link(model, IMAGE)
    calibrate(model, [IMAGE])
    save(model, tmp_path / "ptq.pt")
    other = network()
    load(other, tmp_path / "ptq.pt")
    with torch.no_grad():
        for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other):
            assert isinstance(same.stem, Same) and torch.equal(same(IMAGE), model(IMAGE))


@pytest.mark.parametrize("treat", [{"Own": "Conv2d"}, {f"{Own.__module__}.Own": "Conv2d"}])
def test_a_class_that_the_configuration_names_is_treated(treat: dict[str, str], tmp_path: Path) -> None:
    assert quantize(OwnNet()).replaced == ("last",)
    model = OwnNet()
    assert quantize(model, Config(treat=treat)).treated == {"own": "Conv2d"}
    assert quantizers(model)["own._weight_quantizer"].axis == 0
    calibrate(model, [IMAGE])
    save(model, tmp_path / "ptq.pt")
    assert sorted(p.kind for p in pairs(Graph(export(model, IMAGE, tmp_path / "m.onnx")))).count("weight") == 2
    other = OwnNet()
    load(other, tmp_path / "ptq.pt")
    with torch.no_grad():
        assert torch.equal(other(IMAGE), model(IMAGE))


def test_a_line_of_a_file_names_the_class(tmp_path: Path) -> None:
    file = tmp_path / "quantize.toml"
    file.write_text('[treat]\nOwn = "Conv2d"\n')
    assert Config.read(file).treat == {"Own": "Conv2d"}


class Dynamic(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * x.mean(), self.bias)


class Twice(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight) + functional.conv2d(x, self.weight.flip(2))


class Reshaped(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight[:, :, :1, :1])


class Extra(nn.Conv2d):
    def forward(self, x: Tensor, more: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x + more)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Dynamic, "several weights, or one that depends on the input"),
        (Twice, "several weights"),
        (Reshaped, r"has shape \[6, 4, 1, 1\], not that of its own weight"),
        (Extra, "does not run alone: .*more"),
    ],
)
def test_a_forward_that_does_not_allow_it_is_left_with_the_reason(kind: type[nn.Conv2d], reason: str) -> None:
    model = nn.Sequential(kind(4, 6, 3))
    done = quantize(model)
    assert done.left == ("0",) and type(model[0]) is kind
    assert re.search(reason, done.reasons["0"])


def test_a_class_that_cannot_be_treated_is_an_error_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Dynamic(4, 4, 1))
    with pytest.raises(TorchError, match=r"^treat: 1, a Dynamic, as Conv2d: .* depends on the input"):
        quantize(model, Config(treat={"Dynamic": "Conv2d"}))
    with pytest.raises(TorchError, match=r"no module has the class 'Dynamik' \(did you mean 'Dynamic'|did you mean"):
        quantize(model, Config(treat={"Dynamik": "Conv2d"}))
    assert type(model[0]) is nn.Conv2d and not quantizers(model)


def test_a_class_in_the_map_of_the_library_is_treated(monkeypatch: pytest.MonkeyPatch) -> None:
    here = sys.modules[__name__]
    entry = quant_modules._quant_entry(here, "Own", qnn.QuantConv2d)
    monkeypatch.setattr(quant_modules, "_DEFAULT_QUANT_MAP", [*quant_modules._DEFAULT_QUANT_MAP, entry])
    model = nn.Sequential(OwnNet())
    assert quantize(model).treated == {"0.own": "Conv2d"}
