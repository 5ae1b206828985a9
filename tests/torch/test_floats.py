"""Products of functions that stay in float: `link` names the modules that compute them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn
from torch.nn import functional

from qdqgraph.torch import Config, link, quantize
from tests.support.torch_networks import EXPORTERS, dynamo_or_skip

X = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(1))


class Computed(nn.Module):
    """A matrix that is passed to a function, and a kernel that is computed from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.rand(8, 8) - 0.5)
        self.make = nn.Linear(8, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.linear(x, self.matrix)
        return functional.conv2d(y.unsqueeze(1), self.make(y.mean((0, 1))).reshape(1, 1, 3, 3))


class Network(nn.Module):
    """Layers, functions, attention and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.ignored = nn.Linear(8, 8), nn.Linear(8, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner = nn.Sequential(nn.GRU(8, 8, batch_first=True))
        self.computed = Computed()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        y = self.ignored(torch.relu(self.ignored(y)))
        y, _ = self.attend(y, y, y, need_weights=False)
        y, _ = self.inner(y)
        out: Tensor = self.computed(y)
        return out


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_modules_that_compute_in_float_by_functions_are_named_and_layers_are_not_repeated(dynamo: bool) -> None:
    dynamo_or_skip(dynamo)
    model = Network().eval()
    quantize(model, Config(ignore="ignored"))
    found = link(model, X, dynamo=dynamo).in_float
    assert [sentence.partition(" computes ")[0] for sentence in found] == [
        "attend (MultiheadAttention)",
        "inner.0 (GRU)",
        "computed (Computed)",
    ]
    assert found[1] == "inner.0 (GRU) computes 1 GRU in float: no quantizer at their operands"
    assert "1 Conv" in found[2] and "1 MatMul" in found[2]


class Position(nn.Module):
    """Adds a product of parameters, as networks compute a position bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.matrix = nn.Parameter(torch.rand(6, 8)), nn.Parameter(torch.rand(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.linear(self.table, self.matrix)


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_quantized_layers_and_products_of_constants_are_not_named(dynamo: bool) -> None:
    dynamo_or_skip(dynamo)
    model = nn.Sequential(nn.Linear(8, 8), Position(), nn.ReLU(), nn.Linear(8, 4)).eval()
    quantize(model)
    assert link(model, X, dynamo=dynamo).in_float == ()
