"""`compare_export`: what a file computes beside the model, and where it begins to differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor, nn

from qdqgraph.errors import ModelError, TorchError
from qdqgraph.model import runtime
from qdqgraph.torch import (
    Exporting,
    Network,
    calibrate,
    compare_export,
    export,
    link,
    quantize,
    quantize_network,
    quantizers,
)
from tests.support.torch_networks import EXPORTERS, Dense, X, dynamo_or_skip, residual

DATA = [torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]


def calibrated(model: nn.Module, example: Any = X, *, dynamo: bool = False, **how: Any) -> nn.Module:
    model.eval()
    quantize(model)
    link(model, example, dynamo=dynamo)
    calibrate(model, how.pop("loader", DATA), **how)
    return model


def changed(file: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray], name: str) -> onnx.ModelProto:
    """The file with other values in one initializer, or in the one constant that a node of this name reads as scale."""
    other = onnx.ModelProto()
    other.CopyFrom(file)
    by_name: dict[str, Any] = {t.name: t for t in other.graph.initializer}
    for node in other.graph.node:
        if node.op_type == "Constant":
            by_name[node.output[0]] = node.attribute[0].t
    for node in other.graph.node:
        if node.op_type == "QuantizeLinear" and name in node.name:
            name = node.input[1]
    tensor = by_name[name]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return other


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize("network", [residual, Dense])
def test_a_faithful_file_agrees_but_for_the_last_bits(
    network: Callable[[], nn.Module], dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    torch.manual_seed(0)
    model = calibrated(network(), dynamo=dynamo).train()
    export(model, X, tmp_path / "m.onnx", dynamo=dynamo)
    before = [(m, m.training, dict(vars(m))) for m in model.modules()]
    found = compare_export(model, tmp_path / "m.onnx", X, DATA)
    assert found.agrees and found.diagnosis is None and found.batches == 2 and not found.notes
    assert all(how.sqnr > 120 and how.largest < 1e-5 for how in found.outputs.values())
    for module, training, attributes in before:
        assert module.training == training and vars(module).keys() == attributes.keys()
        assert not [h for h in module._forward_hooks.values() if h not in attributes["_forward_hooks"].values()]


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize(
    ("initializer", "factor", "layer", "what"),
    [
        ("1.conv1.weight", 1.3, "1.conv1", "its weights differ"),
        ("1.downsample.bias", 3.0, "1.downsample", "its output differs"),
        ("0.conv2.bias", 1.5, "0.conv2", "its output differs"),
        ("1/conv2/_input_quantizer", 2.0, "1.conv2", "integers of its input differ: the file has the scale"),
        ("1/conv1/_weight_quantizer", 0.5, "1.conv1", "integers of its weights differ: the file has the scale"),
    ],
)
def test_a_wrong_file_is_reported_at_the_layer_that_is_wrong(
    initializer: str, factor: float, layer: str, what: str, dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    model = calibrated(residual(), dynamo=dynamo)
    file = export(model, X, tmp_path / "m.onnx", dynamo=dynamo)
    if dynamo and "quantizer" in initializer:
        pair = next(n for n in file.graph.node if n.op_type == "QuantizeLinear" and initializer in _scopes(n))
        initializer = pair.input[1]
    found = compare_export(model, changed(file, lambda a: a * np.float32(factor), initializer), X, DATA)
    assert not found.agrees and found.diagnosis is not None
    assert found.diagnosis.starts[0].layer == layer and what in found.diagnosis.starts[0].what
    assert {start.layer for start in found.diagnosis.starts} == {layer}
    assert f"begins to differ at {layer}: " in str(found)


def _scopes(node: onnx.NodeProto) -> str:
    return node.name + "".join(p.value for p in node.metadata_props).replace(".", "/")


def test_every_wrong_layer_is_named_in_execution_order(tmp_path: Path) -> None:
    model = calibrated(residual())
    file = export(model, X, tmp_path / "m.onnx")
    for name in ("1.conv2.bias", "0.conv1.bias"):
        file = changed(file, lambda a: a + np.float32(0.5), name)
    found = compare_export(model, file, X, DATA)
    assert found.diagnosis is not None
    assert [start.layer for start in found.diagnosis.starts] == ["0.conv1", "1.conv2"]


class Between(nn.Module):
    """An operator in no layer of its own, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.shift = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(x) * self.shift.exp()))
        return out


def test_an_operator_without_a_module_is_named(tmp_path: Path) -> None:
    model = Between().eval()
    quantize(model)
    calibrate(model, DATA)
    file = export(model, X, tmp_path / "m.onnx")
    found = compare_export(model, changed(file, lambda a: a * np.float32(1.5), "shift"), X, DATA)
    assert found.diagnosis is not None
    assert [start.what for start in found.diagnosis.starts] == ["the output of its Relu differs"]


def test_values_on_rounding_ties_are_counted_and_explain_the_output(tmp_path: Path) -> None:
    """ONNX Runtime divides by the scale, the library multiplies by its inverse: midpoints round to either side."""
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    torch.manual_seed(0)
    quantize(model)
    calibrate(model, DATA)
    file = export(model, X, tmp_path / "m.onnx")
    quantizer = quantizers(model)["0._input_quantizer"]
    scale = np.float32(float(quantizer.amax)) / np.float32(127)
    steps = torch.from_numpy((np.arange(512) % 100 + np.float32(0.5)) * scale).float().reshape(2, 4, 8, 8)
    found = compare_export(model, file, X, [steps])
    assert found.outputs and all(how.sqnr < 60 for how in found.outputs.values())
    assert found.diagnosis is not None and found.agrees
    assert found.diagnosis.integers.ties > 10 and found.diagnosis.integers.others == 0
    assert found.diagnosis.least > 110 and "on equal integers every layer agrees" in str(found)
    wrong = compare_export(model, changed(file, lambda a: a + np.float32(0.01), "2.bias"), X, [steps])
    assert wrong.diagnosis is not None and [start.layer for start in wrong.diagnosis.starts] == ["2"]


class TwoInputs(nn.Module):
    """Two inputs, one by keyword; a mapping of outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, image: Tensor, *, guide: Tensor, flag: bool = True) -> dict[str, Any]:
        return {"sum": self.a(image) + self.b(guide), "others": [self.a(guide)]}


def feed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Any:
    return model(batch[0], guide=batch[1])


@pytest.mark.parametrize(("dynamo", "dynamic"), [(False, False), (False, True), (True, False)])
def test_several_inputs_and_outputs(dynamo: bool, dynamic: bool, tmp_path: Path) -> None:
    """The example names the inputs in another order than the forward; the file's batch is smaller than the loader's."""
    dynamo_or_skip(dynamo)
    example = {"guide": torch.rand(1, 4, 8, 8), "image": torch.rand(1, 4, 8, 8)}
    loader = [(torch.rand(3, 4, 8, 8), torch.rand(3, 4, 8, 8)) for _ in range(3)]
    model = calibrated(TwoInputs(), example, loader=loader, feed=feed, dynamo=dynamo)
    file = export(model, example, tmp_path / "m.onnx", dynamo=dynamo, dynamic_batch=dynamic)
    found = compare_export(model, file, example, (batch for batch in loader), batches=3, feed=feed)
    assert found.batches == 3 and [round(how.sqnr) > 120 for how in found.outputs.values()] == [True, True]


def test_a_half_precision_file(tmp_path: Path) -> None:
    model = calibrated(residual()).half()
    file = export(model, X.half(), tmp_path / "m.onnx", opset=19)
    assert compare_export(model, file, X.half(), DATA).agrees
    found = compare_export(model, changed(file, lambda a: a + np.float16(0.5), "1.conv2.bias"), X.half(), DATA)
    assert found.diagnosis is not None and found.diagnosis.starts[0].layer == "1.conv2"


class Sequence(nn.Module):
    """A recurrent layer, whose quantizers run once for each time step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.fc = nn.LSTM(8, 8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.lstm(x)[0])
        return out


def test_quantizers_that_run_several_times_are_compared_run_by_run(tmp_path: Path) -> None:
    x = torch.rand(2, 5, 8, generator=torch.Generator().manual_seed(1))
    model = calibrated(Sequence(), x, loader=[x])
    file = export(model, x, tmp_path / "m.onnx")
    found = compare_export(model, changed(file, lambda a: a + np.float32(0.5), "fc.bias"), x)
    assert found.diagnosis is not None and [start.layer for start in found.diagnosis.starts] == ["fc"]
    assert not found.diagnosis.starts[0].unforced and found.diagnosis.places > 10


def test_pairs_without_a_known_quantizer_are_named(tmp_path: Path) -> None:
    model = calibrated(residual())
    file = export(model, X, tmp_path / "m.onnx")
    for number, node in enumerate(file.graph.node):
        if "0/conv2/_input_quantizer" in node.name:
            node.name = f"renamed_{number}"
    file = changed(file, lambda a: a + np.float32(0.5), "0.conv2.bias")
    found = compare_export(model, file, X, DATA)
    assert found.diagnosis is not None and found.diagnosis.unknown == ("0.conv2._input_quantizer",)
    first = found.diagnosis.starts[0]
    assert first.layer == "0.conv2" and first.unforced and "may explain it" in str(first)


def test_batches_that_do_not_fit_are_left_out_and_a_used_up_loader_means_the_example(tmp_path: Path) -> None:
    model = calibrated(residual())
    file = export(model, X, tmp_path / "m.onnx")
    found = compare_export(model, file, X, [torch.rand(1, 4, 8, 8), *DATA, torch.rand(2, 4, 9, 9)], batches=3)
    assert found.batches == 2 and "images is [2, 4, 8, 8], a batch [2, 4, 9, 9]" in found.notes[0]
    generator = (x for x in DATA)
    assert compare_export(model, file, X, generator).batches == 2
    again = compare_export(model, file, X, generator)
    assert again.batches == 1 and "on the example of the export" in again.notes[0]


def test_what_cannot_be_compared_is_an_error(tmp_path: Path) -> None:
    model = calibrated(residual())
    file = export(model, X, tmp_path / "m.onnx")
    with pytest.raises(TorchError, match="batches 0: give the number of batches"):
        compare_export(model, file, X, batches=0)
    with pytest.raises(TorchError, match="feed does not call the model itself"):
        compare_export(model, file, X, DATA, feed=lambda m, x: m.get_submodule("0")(x))
    with pytest.raises(TorchError, match="the file has the inputs images, the example"):
        compare_export(calibrated(TwoInputs(), {"image": X, "guide": X}, feed=lambda m, x: m(x, guide=x)), file, (X, X))
    with pytest.raises(ModelError, match="onnxruntime cannot run the model"):
        half = calibrated(residual()).bfloat16()
        compare_export(half, export(half, X.bfloat16(), tmp_path / "b.onnx", opset=19), X.bfloat16())


def test_the_pipeline_compares_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    network = Network(residual, lambda: list(DATA))
    done = quantize_network(network, tmp_path / "m.onnx", progress=lines.append)
    assert done.comparison is not None and done.comparison.agrees and done.comparison.batches == 2
    assert "compared with ONNX Runtime on 2 batches" in "\n".join(lines)
    off = quantize_network(network, tmp_path / "off.onnx", exporting=Exporting(compare=0), progress=lines.append)
    assert off.comparison is None
    monkeypatch.setattr(runtime, "available", lambda: False)
    lines.clear()
    assert quantize_network(network, tmp_path / "no.onnx", progress=lines.append).comparison is None
    assert "not compared with ONNX Runtime: onnxruntime is not installed" in lines[-1]
    with pytest.raises(TorchError, match="compare -1: give the number of batches"):
        quantize_network(network, tmp_path / "x.onnx", exporting=Exporting(compare=-1))
