"""What an exporter folds is folded in the probe too; layers that compute only zeros; calls that stay in float; loaders
that yield once; calibration inside inference mode and autocast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor, nn

import qdqgraph
from qdqgraph.errors import TorchError
from qdqgraph.torch import (
    Config,
    Network,
    Spec,
    Training,
    calibrate,
    export,
    finetune,
    link,
    probe,
    quantize,
    quantize_network,
    quantizers,
    sensitivity,
)
from qdqgraph.torch.calls.places import places, remove_quantizers
from tests.support.torch_networks import X, residual


class Weighted(nn.Module):
    """A sum of a list with weights that are computed from a parameter, as in a BiFPN."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.a, self.b, self.c, self.d = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.w = nn.Parameter(torch.rand(3) + 0.5)

    def weight(self, i: int) -> Tensor:
        if self.how == "item":
            return self.w[i]
        if self.how == "softmax":
            return torch.softmax(self.w, 0)[i]
        w = torch.relu(self.w)
        return (w / (w.sum() + 1e-4))[i]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y: Any = sum(self.weight(i) * f for i, f in enumerate([x, self.b(x), self.c(x)]))
        out: Tensor = self.d(torch.relu(y))
        return out


@pytest.mark.parametrize("how", ["item", "softmax", "normalized"])
def test_weights_computed_from_parameters_leave_no_findings_however_often_the_model_ran(
    how: str, tmp_path: Path
) -> None:
    """Python 3.11 calls `sum` at another instruction after a few runs."""
    for _ in range(10):
        model = Weighted(how).eval()
        quantize(model)
        linked = link(model, X)
        assert not calibrate(model, [X]).unseen
        file = export(model, X, tmp_path / "m.onnx", force=True)
        assert not linked.left and not qdqgraph.check(file, qdqgraph.rules())


def test_calls_of_constants_alone_have_no_places() -> None:
    model = Weighted("normalized").eval()
    quantize(model)
    found = {place.call.operator for place in probe(model, X).places.values()}
    assert {"mul", "add"} <= found and not found & {"div", "getitem"}


class Zero(nn.Module):
    """A branch whose last convolution has no weights yet, as in NF-Nets and LeViT."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c(self.b(self.a(x)))
        return out


def test_layers_of_zeros_are_named_and_written_where_allowed(tmp_path: Path) -> None:
    model = Zero()
    quantize(model)
    done = calibrate(model, [X])
    assert done.zero == ("b._weight_quantizer", "c._input_quantizer")
    assert "all weights are zero, as in an untrained layer: b._weight_quantizer" in str(done)
    assert "only zeros reached c._input_quantizer" in str(done)
    with pytest.raises(TorchError, match=r"c\._input_quantizer cannot be exported: its amax is 0"):
        export(model, X, tmp_path / "m.onnx")
    file = export(model, X, tmp_path / "m.onnx", allow_zero=True)
    assert not [f for f in qdqgraph.check(file, qdqgraph.rules()) if f.code.startswith("QDQ4")]


def test_added_quantizers_have_the_method_of_the_configuration() -> None:
    model = Weighted("item").eval()
    quantize(model, Config(input=Spec(method="percentile", percentile=90)))
    added = link(model, X).added
    own = [quantizers(model)[path] for path in added]
    assert own and all((q.method, q.percentile) == ("percentile", 90) for q in own)


def test_a_free_name_is_found_after_another_quantizer_was_removed() -> None:
    model = Weighted("item").eval()
    quantize(model)
    link(model, X)
    paths = places(model)
    kept = "_functional.add_1._input0_quantizer"
    assert len(paths) > 1 and kept in paths
    remove_quantizers(model, [kept])
    link(model, X)
    assert set(paths.values()) == set(places(model).values())


@pytest.mark.parametrize("ignore", ["0.add", "*.add", "re:\\d\\.add"])
def test_calls_of_an_operator_can_be_ignored(ignore: str) -> None:
    model = residual()
    assert not quantize(model, Config(ignore=ignore)).ignored
    added = link(model, X).added
    assert not [path for path in added if path.startswith("0._functional.add")]
    with pytest.raises(TorchError, match=r"no module matches '0\.haed'"):
        quantize(residual(), Config(ignore="0.haed"))


def test_an_ignored_module_gets_no_quantizers_at_its_calls() -> None:
    model = residual()
    quantize(model, Config(ignore="0"))
    assert not [path for path in link(model, X).added if path.startswith("0.")]


def test_blocks_are_globs_of_modules_and_calls() -> None:
    model = residual()
    quantize(model)
    link(model, X)
    calibrate(model, [X])

    def names(*blocks: str) -> set[str]:
        return {
            n for u in sensitivity(model, lambda m: float(m(X).detach().mean()), blocks=blocks).units for n in u.layers
        }

    assert names("?") == {"0", "1"}
    calls = {n for n in names("*._functional.*") if "_functional" in n}
    assert calls and calls <= {f"{p.rpartition('.')[0]}" for p in places(model)}
    with pytest.raises(TorchError, match=r"no module '2\.\*'"):
        names("2.*")


@pytest.mark.parametrize("method", ["max", "entropy"])
def test_calibration_inside_inference_mode_and_autocast_can_be_trained(method: str) -> None:
    expected: dict[str, Tensor] = {}
    for where in ("", "inference", "autocast", "feed"):
        model = residual()
        quantize(model)

        def feed(model: nn.Module, batch: Tensor) -> Any:
            with torch.inference_mode():
                return model(batch)

        with (
            torch.inference_mode(where == "inference"),
            torch.autocast("cpu", torch.bfloat16, enabled=where == "autocast"),
        ):
            calibrate(model, [X, X / 2], method=method, feed=feed if where == "feed" else None)
        found = {n: q.amax for n, q in quantizers(model).items()}
        assert all(a.dtype == torch.float32 and not a.is_inference() for a in found.values())
        expected = expected or found
        if where != "autocast":
            assert all(torch.equal(a, expected[n]) for n, a in found.items())
        assert finetune(model, residual(), [X], training=Training(epochs=1)).losses


def test_a_generator_is_used_once_and_refused_for_more() -> None:
    model = residual()
    quantize(model)
    calibrate(model, (x for x in [X, X]))
    with pytest.raises(TorchError, match="a generator, which yields its batches only once, but there are 2 epochs"):
        finetune(model, residual(), (x for x in [X]), training=Training(epochs=2))
    assert finetune(model, residual(), (x for x in [X]), training=Training(epochs=1)).losses


def test_data_that_return_the_same_generator_are_refused(tmp_path: Path) -> None:
    once = (x for x in [X, X])

    def fresh() -> Iterator[Tensor]:
        yield from [X, X]

    with pytest.raises(TorchError, match="data returns the same generator at each call"):
        quantize_network(Network(residual, lambda: once), tmp_path / "m.onnx")
    assert quantize_network(Network(residual, fresh), tmp_path / "m.onnx").path.exists()


class Branches(nn.Module):
    """A branch for a second input that the data never give, and an auxiliary head that runs in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.second, self.aux, self.last = (nn.Conv2d(4, 4, 1) for _ in range(4))

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        y = torch.relu(self.a(x))
        if other is not None:
            y = y + self.second(other)
        out: Tensor = self.last(y)
        return (out, self.aux(y)) if self.training else out


def test_what_was_not_reached_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    model = Branches()
    quantize(model)
    link(model, X)
    done = calibrate(model, [X])
    assert {path.partition(".")[0] for path in done.unseen} == {"second", "aux"}
    file = export(model, X, tmp_path / "m.onnx")
    assert sum(node.op_type == "Conv" for node in file.graph.node) == 2
    with pytest.raises(TorchError, match=r"second\._input_quantizer cannot be exported: it has no amax"):
        export(model, (X, X), tmp_path / "two.onnx")
