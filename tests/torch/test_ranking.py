"""The cost of units, one at a time: rankings, their files, and what is switched off by them."""

from __future__ import annotations

import copy
import csv
import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn

from benchmarks.torch_networks.accuracy import Flow
from benchmarks.torch_networks.trained import Data, answers
from qdqgraph.errors import TorchError
from qdqgraph.torch import (
    Sensitivity,
    apply_sensitivity,
    quantize,
    quantizers,
    sensitivity,
)
from qdqgraph.torch.quantizer.quantizer import quantizer_paths
from qdqgraph.torch.training.plot import svg
from qdqgraph.torch.training.sensitivity import units
from tests.support.torch_networks import X, linked, residual


class Names(nn.Module):
    """Layers of which one's path is the beginning of another's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer1, self.layer10 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self._last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._last(self.layer1(x) + self.layer10(x * 5))
        return out


def scored(model: nn.Module) -> float:
    """A score that says which quantizers are on: one digit each, in the order of the layers."""
    found = {n: q for n, q in quantizer_paths(model).items() if "input" in n}
    return float("".join(str(int(not q._disabled)) for q in found.values()))


def test_units_are_switched_one_at_a_time_by_exact_name() -> None:
    model = Names()
    quantize(model)
    off = sensitivity(model, scored)
    assert (off.quantized, off.unquantized) == (111, 0)
    assert {u.name: u.score for u in off.units} == {"layer1": 11, "layer10": 101, "_last": 110}
    on = sensitivity(model, scored, direction="enable")
    assert {u.name: u.score for u in on.units} == {"layer1": 100, "layer10": 10, "_last": 1}
    assert scored(model) == 111


def test_layers_that_share_a_quantizer_are_one_unit() -> None:
    model = linked()
    names = [set(u) for u in units(model)]
    assert {"0.conv1", "0._functional.add_0"} in names
    assert {"1.conv1", "1.downsample"} in [n - {"1._functional.add_0"} for n in names]
    assert {"0.conv2"} in names
    by_block = units(model, ["0", "1"])
    assert sorted(len(u) for u in by_block) in ([1, 1], [2])
    with pytest.raises(TorchError, match=r"no module '2'"):
        units(model, ["2"])
    with pytest.raises(TorchError, match=r"'1.relu' contains no enabled quantizer"):
        units(model, ["0", "1.relu"])


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file, calls = tmp_path / "s.json", 0

    def failing(model: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return scored(model)

    model = Names()
    quantize(model)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(model, failing, file=file)
    assert scored(model) == 111
    result = sensitivity(model, failing, file=file)
    assert calls == 6 and result == sensitivity(model, scored) == Sensitivity.from_json(file.read_text())
    with pytest.raises(TorchError, match=r"ranking by direction 'disable'"):
        sensitivity(model, scored, direction="enable", file=file)
    quantizers(model)["layer1._input_quantizer"].set_amax(torch.tensor(2.0))
    with pytest.raises(TorchError, match=r"other weights or amax"):
        sensitivity(model, scored, file=file)
    for content in (b"{}", b"\xff\xfe", b"[]", b"no JSON"):
        file.write_bytes(content)
        with pytest.raises(TorchError, match=r"s\.json: this is not a sensitivity result"):
            sensitivity(model, scored, file=file)


def test_the_benchmark_ranks_a_network_once_for_all_methods(tmp_path: Path) -> None:
    network = residual()
    inputs = (X[:1],)
    flow = Flow("net", network, Data(inputs, inputs, inputs), tmp_path, tmp_path, [], answers(network, inputs))
    first, _ = flow.quantized("max", link=True)
    ranked = flow.ranking(first)
    written = (tmp_path / "net.json").read_bytes()
    again, _ = flow.quantized("entropy", link=True)
    assert flow.ranking(again) == ranked and (tmp_path / "net.json").read_bytes() == written
    (tmp_path / "net.json").write_text(replace(ranked, units=ranked.units[1:]).to_json())
    assert flow.ranking(first) == ranked


def test_results_are_ranked_and_written_as_json_csv_and_picture() -> None:
    model = Names()
    quantize(model)
    result = sensitivity(model, scored, direction="enable")
    assert [u.cost for u in result.units] == sorted((u.cost for u in result.units), reverse=True)
    assert Sensitivity.from_json(result.to_json()) == result
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [r["unit"] for r in rows] == [u.name for u in result.units] and rows[0]["rank"] == "1"
    picture = ElementTree.fromstring(svg(result))
    texts = [t.text for t in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [t for t in texts if t in {u.name for u in result.units}] == [u.name for u in result.units]


def test_the_most_expensive_units_are_switched_off_and_the_rest_is_linked_again() -> None:
    model = linked()
    costs = {"0.conv2": 5.0, "1.conv2": 3.0}

    def judged(model: nn.Module) -> float:
        found = quantizers(model)
        return -sum(c for n, c in costs.items() if not found[f"{n}._input_quantizer"]._disabled)

    result = sensitivity(model, judged)
    assert [(u.name, u.cost) for u in result.units[:2]] == [("0.conv2", 5.0), ("1.conv2", 3.0)]
    for options, expected in (
        ({"top": 1}, ("0.conv2",)),
        ({"budget": 3.0}, ("0.conv2",)),
        ({"budget": 1.0}, tuple(costs)),
    ):
        copied = copy.deepcopy(model)
        layers, done = apply_sensitivity(copied, result, **options, example=X)
        assert layers == expected and done is not None
        found = quantizers(copied)
        assert all(found[f"{n}.{kind}"]._disabled for n in layers for kind in ("_input_quantizer", "_weight_quantizer"))
    with pytest.raises(TorchError, match=r"either"):
        apply_sensitivity(model, result)
    with pytest.raises(TorchError, match=r"top -1"):
        apply_sensitivity(model, result, top=-1)
    for budget in (float("nan"), -1.0):
        with pytest.raises(TorchError, match=r"the cost that may remain, 0 or more"):
            apply_sensitivity(model, result, budget=budget)
    with pytest.raises(TorchError, match=r"belongs to another network"):
        apply_sensitivity(residual(), result, top=1)
