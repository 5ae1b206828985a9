"""`link`: which places in a model are mapped to quantizers, and which stay hidden, unmoved or float."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

import qdqgraph
from qdqgraph.torch import Config, Layers, calibrate, export, link, probe, quantize, quantizers
from tests.support.torch_networks import EXPORTERS, X, dynamo_or_skip


def joined(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a, b], 1)


class Hidden(nn.Module):
    """A Concat inside a scripted function, where no hook reaches."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.joined = torch.jit.script(joined)
        self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.a(x)
        return self.b(self.joined(a, x)), self.c(a)


def test_what_cannot_be_mapped_is_listed_by_name() -> None:
    model = Hidden()
    quantize(model)
    done = link(model, X)
    assert done.unmapped and all("(Concat) should read" in sentence for sentence in done.unmapped)
    assert done.groups, "the rest is tied all the same"


class Opaque(torch.autograd.Function):
    """An operator with a node of its own; inside, it is calls of torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return functional.max_pool2d(functional.interpolate(x, scale_factor=2.0), 2)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        return g.op("MaxPool", x, kernel_shape_i=[1, 1])


class Own(nn.Module):
    """Exported through an autograd function, as converters from ONNX do it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = functional.relu(self.a(x))
        out: Tensor = Opaque.apply(a)  # type: ignore[no-untyped-call]
        return self.b(out), self.c(a)


def test_calls_inside_of_autograd_functions_are_no_places() -> None:
    model = Own()
    quantize(model)
    assert {p.call.operator for p in probe(model, X).places.values()} == {"relu"}
    done = link(model, X)
    assert not done.added and ["(MaxPool) should read" in sentence for sentence in done.unmapped] == [True]
    calibrate(model, [X])
    assert not [n for n, q in quantizers(model).items() if q.amax is None]


class Pool(nn.Module):
    """One operator, after an autograd function."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Opaque.apply(x)  # type: ignore[no-untyped-call]
        return out


class Pooled(nn.Module):
    """The same tensor is pooled there and read by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.pool = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1), Pool()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = functional.relu(self.a(x))
        return self.b(self.pool(a)), self.c(a)


def test_a_module_whose_inside_is_hidden_is_quantized_where_tensors_enter_it(tmp_path: Path) -> None:
    model = Pooled()
    quantize(model)
    done = link(model, X)
    assert done.added == ("pool._functional.forward_0._input0_quantizer",) and not done.unmapped
    assert {frozenset(g) for g in done.groups} == {
        frozenset({"b._input_quantizer", "c._input_quantizer", "pool._functional.forward_0._input0_quantizer"})
    }
    calibrate(model, [X])
    assert not qdqgraph.check(export(model, X, tmp_path / "m.onnx"), qdqgraph.rules())


def test_a_pair_that_moves_in_front_of_a_pad_stays_what_it_was(tmp_path: Path) -> None:
    model: Any = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3)).eval()
    quantize(model, Config(layers=(Layers("2", {"method": "entropy"}, {}),)))
    done = link(model, X)
    assert done.disabled == ("2._input_quantizer",) and not done.unmapped
    assert done.added == ("1._functional.pad_0._input0_quantizer",)
    assert quantizers(model)[done.added[0]].method == "entropy"
    calibrate(model, [X], method="max")
    assert not qdqgraph.check(export(model, X, tmp_path / "m.onnx"), qdqgraph.rules())


class Pools(nn.Module):
    """Two modules do the same to one tensor: the exporter makes one node of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.one, self.two = nn.MaxPool2d(2), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        a = functional.relu(self.a(x))
        out: Tensor = self.b(self.one(a)) + self.c(self.two(a))
        return out


class Unmoved(nn.Module):
    """A call that is no node, in front of one that is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        out: Tensor = self.c(functional.relu(self.b(functional.relu(a))) + a.contiguous())
        return out


@pytest.mark.parametrize("build", [Pools, Unmoved])
def test_what_an_exporter_leaves_out_leaves_no_finding(build: type[nn.Module], tmp_path: Path) -> None:
    model = build().eval()
    quantize(model)
    onnx.checker.check_model(probe(model, X).with_places(()))
    done = link(model, X)
    assert not done.unmapped and not done.left
    calibrate(model, [X])
    assert not qdqgraph.check(export(model, X, tmp_path / "m.onnx"), qdqgraph.rules())


class WithGelu(nn.Module):
    """A residual block whose activations are GELU by Tanh, which exporters write in eight nodes below opset 20."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.gelu = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.a(x))
        out: Tensor = self.c(self.gelu(self.b(x) + x))
        return out


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_a_function_that_is_exported_in_several_nodes_gets_no_quantizer_inside(dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    model = WithGelu().eval()
    quantize(model)
    done = link(model, X, dynamo=dynamo)
    assert done.added == ("_functional.add_0._input1_quantizer",), "the skip's, and no other"
    calibrate(model, [X])
    written = export(model, X, tmp_path / "m.onnx", dynamo=dynamo)
    assert sum(n.op_type == "Tanh" for n in written.graph.node) == 2
    assert not qdqgraph.check(written, qdqgraph.rules())
