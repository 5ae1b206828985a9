"""Saved states remember how they were calibrated, and are compared by modules, quantizers and their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn

from qdqgraph.errors import TorchError
from qdqgraph.torch import (
    Config,
    FloatUnits,
    Layers,
    Network,
    Operator,
    Preparation,
    Sensitivity,
    apply_sensitivity,
    calibrate,
    link,
    load,
    quantize,
    quantize_network,
    quantizers,
    rank_layers,
    save,
)
from qdqgraph.torch.quantizer.provenance import provenance
from tests.support.torch_networks import X, residual

HEAVY = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)) ** 3
"""Values with long tails: every method gives another amax."""


def amaxes(model: nn.Module) -> dict[str, Tensor]:
    return {n: q.amax.clone() for n, q in quantizers(model).items() if q.amax is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(x, other[n]) for n, x in one.items())


@pytest.mark.parametrize(
    "how",
    [
        {"method": "mse"},
        {"method": "percentile", "percentile": 90.0},
        {"percentile": 95.0},
        {"method": "entropy", "layers": {"0.conv1": "max", "1.*": "percentile"}, "batches": 1},
    ],
)
def test_a_state_knows_how_it_was_calibrated_and_is_calibrated_that_way_again(
    how: dict[str, Any], tmp_path: Path
) -> None:
    config = Config(
        ignore=lambda path, module: path == "1.downsample",
        layers=(Layers("0.conv2", {"method": "percentile"}, {}),),
        operators=(Operator("add", modules="0"),),
    )
    model, data = residual(), [HEAVY, X]
    quantize(model, config, X)
    link(model, X)
    calibrate(model, data, progress=False, **how)
    save(model, tmp_path / "ptq.pt")
    before, fresh = amaxes(model), residual()
    known = load(fresh, tmp_path / "ptq.pt").provenance
    assert known == provenance(model) == provenance(fresh) and known.calibrated
    assert (known.method, known.percentile) == (how.get("method", ""), how.get("percentile"))
    assert known.config is not None and known.config["ignore"] == ["1.downsample"]
    assert known.config["layers"][0] == {"modules": ["0.conv2"], "input": {"method": "percentile"}, "weight": {}}
    assert known.config["operators"][0]["operator"] == "add"
    calibrate(fresh, data, known.batches, progress=False)
    assert same(amaxes(fresh), before)
    calibrate(fresh, data, method="max", progress=False)
    assert not same(amaxes(fresh), before) and provenance(fresh).method == "max"


def test_a_network_linked_again_without_some_units_keeps_its_method(tmp_path: Path) -> None:
    model = residual()
    quantize(model)
    link(model, X)
    calibrate(model, [HEAVY], method="percentile", percentile=90.0, progress=False)
    save(model, tmp_path / "ptq.pt")
    fresh = residual()
    load(fresh, tmp_path / "ptq.pt")
    ranking = Sensitivity("disable", "", 0, 0, (Unit("1.conv2"),))
    apply_sensitivity(fresh, ranking, top=1, example=X)
    calibrate(fresh, [HEAVY], progress=False)
    stem = "0.conv1._input_quantizer"
    assert torch.equal(quantizers(fresh)[stem].amax, quantizers(model)[stem].amax)


def Unit(name: str) -> Any:  # noqa: N802
    from qdqgraph.torch.training.ranking import Unit

    return Unit(name, (name,), 1.0, 1.0)


def test_the_command_calibrates_again_as_the_state_was(tmp_path: Path) -> None:
    """With more data, of which the state saw only the first batch."""
    network = Network(residual, lambda: [HEAVY, 10 * HEAVY], lambda model: float(model(X).sum().detach()))
    state = tmp_path / "ptq.pt"
    first = quantize_network(
        network, tmp_path / "a.onnx", preparation=Preparation(method="mse", batches=1), save_ptq=state
    )
    ranked = rank_layers(network, tmp_path / "layers.json", preparation=Preparation(load=state))
    lines: list[str] = []
    second = quantize_network(
        network,
        tmp_path / "b.onnx",
        preparation=Preparation(load=state),
        off=FloatUnits(ranked.ranking, top=0),
        progress=lines.append,
    )
    assert same(amaxes(second.prepared.model), amaxes(first.prepared.model))
    assert f"calibrating as {state} was: method mse, 1 batches" in lines
    third = quantize_network(
        network,
        tmp_path / "c.onnx",
        preparation=Preparation(load=state, method="max", batches=2),
        off=FloatUnits(ranked.ranking, top=0),
    )
    assert not same(amaxes(third.prepared.model), amaxes(first.prepared.model))


class Wider(nn.Module):
    """The network of `residual`, with a last convolution and a classifier of another size."""

    def __init__(self, classes: int = 2, more: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b, self.fc = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, classes)
        self.more = nn.Conv2d(4, 4, 1) if more else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.relu(self.a(x))) + x
        x = x if self.more is None else self.more(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


def calibrated(model: nn.Module) -> nn.Module:
    quantize(model)
    link(model, X)
    calibrate(model, [X], progress=False)
    return model.eval()


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        (
            lambda: Wider(3),
            ["fc.weight has shape [3, 4], in the state [2, 4]", "fc.bias has shape [3], in the state [2]"],
        ),
        (
            lambda: Wider(more=True),
            [
                "the network has more.weight, which the state does not",
                "the network has more.bias, which the state does not",
            ],
        ),
        (
            lambda: calibrated(Wider(more=True)),
            [
                "more._input_quantizer is a quantizer that the state does not have",
                "more._weight_quantizer is a quantizer that the state does not have",
                "the network has more.weight, which the state does not",
                "the network has more.bias, which the state does not",
            ],
        ),
    ],
)
def test_a_state_that_differs_is_refused_with_what_differs_and_a_forced_load_takes_the_rest(
    other: Any, differences: list[str], tmp_path: Path
) -> None:
    model = calibrated(Wider())
    save(model, tmp_path / "state.pt")
    again = other().eval()
    before = {n: x.clone() for n, x in again.state_dict().items()}
    with pytest.raises(TorchError, match="this is the state of another network") as refused:
        load(again, tmp_path / "state.pt")
    assert all(sentence in str(refused.value) for sentence in differences[:3])
    assert all(torch.equal(x, again.state_dict()[n]) for n, x in before.items())
    assert list(load(again, tmp_path / "state.pt", force=True).differences) == differences
    assert torch.equal(again.state_dict()["a.weight"], model.state_dict()["a.weight"])
    assert torch.equal(quantizers(again)["b._input_quantizer"].amax, quantizers(model)["b._input_quantizer"].amax)
    again(X)


def test_a_module_of_another_class_or_place_is_named(tmp_path: Path) -> None:
    model = calibrated(Wider())
    save(model, tmp_path / "state.pt")
    other = Wider()
    other.a = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(TorchError, match=r"a is a Identity, in the state a QuantConv2d"):
        load(other, tmp_path / "state.pt")
    del other.a
    done = load(other, tmp_path / "state.pt", force=True)
    assert "the network has no module a, a QuantConv2d in the state" in done.differences


def test_quantizers_that_others_were_removed_beside_are_found_again(tmp_path: Path) -> None:
    """The quantizers of calls are numbered; a state can have a second one without the first."""

    class Two(Wider):
        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x) + x
            out: Tensor = self.b(x) + x
            return out

    model = Two()
    quantize(model, Config(operators=(Operator("add"),)), X)
    calibrate(model, [X], progress=False)
    holder = model._functional
    assert isinstance(holder, nn.Module) and [n for n, _ in holder.named_children()] == ["add_0", "add_1"]
    del holder._modules["add_0"]
    save(model, tmp_path / "state.pt")
    again = Two()
    load(again, tmp_path / "state.pt")
    assert torch.equal(again.eval()(X), model.eval()(X))


def test_the_command_forces_a_load_and_says_what_differs(tmp_path: Path) -> None:
    state = tmp_path / "ptq.pt"
    save(calibrated(Wider()), state)
    network = Network(lambda: Wider(3), lambda: [X])
    with pytest.raises(TorchError, match=r"fc\.weight has shape"):
        quantize_network(network, tmp_path / "a.onnx", preparation=Preparation(load=state))
    lines: list[str] = []
    forced = Preparation(load=state, force_load=True)
    quantize_network(network, tmp_path / "a.onnx", preparation=forced, progress=lines.append)
    assert f"{state} differs: fc.weight has shape [3, 4], in the state [2, 4]" in lines
    with pytest.raises(TorchError, match="force_load has no effect without load"):
        quantize_network(network, tmp_path / "b.onnx", preparation=Preparation(force_load=True))
