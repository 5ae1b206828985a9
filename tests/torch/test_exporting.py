"""`export`: Q/DQ as TensorRT reads them, from either exporter, and a model that is left as it was."""

from __future__ import annotations

import copy
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor, nn

import qdqgraph
from qdqgraph.errors import ModelError, TorchError
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.torch import Config, Layers, Spec, calibrate, export, link, quantize, quantizers
from tests.support.torch_networks import Dense, X, answers, dynamo_or_skip, residual


class Net(nn.Module):
    """A convolution, a transposed one, a Linear, two readers of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.up = nn.Conv2d(4, 6, 3, padding=1), nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.side, self.fc = nn.Conv2d(6, 5, 1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.conv(x))
        out: Tensor = self.fc(self.up(a).mean((2, 3)) + self.side(a).mean((2, 3)))
        return out


def calibrated(model: nn.Module | None = None, config: Config | None = None) -> nn.Module:
    model = (Net() if model is None else model).eval()
    quantize(model, config)
    calibrate(model, [X])
    return model


@pytest.mark.parametrize(("dynamo", "opset"), [*((False, v) for v in range(13, 21)), (True, 18), (True, 20)])
def test_the_file_computes_what_the_model_computes(dynamo: bool, opset: int, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    model = calibrated()
    written = export(model, X, tmp_path / "m.onnx", opset=opset, dynamo=dynamo)
    assert onnx.load(tmp_path / "m.onnx") == written
    assert max(o.version for o in written.opset_import if o.domain == "") == opset
    with torch.no_grad():
        expected = model(X).numpy()
    # A value between two integers may round the other way where x * (1 / s) and x / s differ in the last bit.
    np.testing.assert_allclose(answers(written, X), expected, atol=0.02 * float(np.abs(expected).max()))


@pytest.mark.parametrize("dynamo", [False, True])
def test_pairs_have_int8_zero_points_scales_of_amax_and_an_axis_where_there_are_channels(
    dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    model = calibrated(config=Config(layers=(Layers("side", {}, {"axis": None}),)))
    graph = Graph(export(model, X, tmp_path / "m.onnx", opset=18, dynamo=dynamo))
    axes = {}
    for pair in pairs(graph):
        reader = graph.readers(pair.dequantizes[0].outputs[0].name)[0].node
        assert pair.zero_point is not None and pair.zero_point.dtype == np.int8 and not pair.zero_point.any()
        assert pair.scale is not None and pair.scale.dtype == np.float32
        if pair.kind == "weight":
            axes[reader.op, pair.scale.size] = pair.axis
    assert axes == {("Conv", 6): 0, ("ConvTranspose", 5): 1, ("Conv", 1): None, ("Gemm", 3): 0}
    assert not graph.nodes("Cast", "Round", "Clip", "BatchNormalization")
    scales = {p.value for p in pairs(graph) if p.kind == "activation"}
    amaxes = [float(q.amax) for n, q in quantizers(model).items() if "input" in n]
    assert scales == {float(np.float32(a / 127)) for a in amaxes}


def test_two_readers_of_one_tensor_share_a_pair_where_their_scales_agree(tmp_path: Path) -> None:
    graph = Graph(export(calibrated(), X, tmp_path / "m.onnx"))
    assert len([p for p in pairs(graph) if p.kind == "activation"]) == 3
    (shared,) = (p for p in pairs(graph) if len(graph.readers(p.dequantizes[0].outputs[0].name)) == 2)
    assert {r.node.op for r in graph.readers(shared.dequantizes[0].outputs[0].name)} == {"Conv", "ConvTranspose"}


def test_the_model_is_left_as_it_was_and_computes_the_same(tmp_path: Path) -> None:
    model: Any = calibrated().train()
    model.conv.eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    attributes = [dict(vars(q)) for q in quantizers(model).values()]
    export(model, X, tmp_path / "m.onnx")
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert [set(vars(q)) - {"_writer", "_encoding"} for q in quantizers(model).values()] == [set(a) for a in attributes]
    assert all(q._writer is None for q in quantizers(model).values())
    torch.save(model.state_dict(), io.BytesIO())


@pytest.mark.parametrize("dynamo", [False, True])
def test_the_batch_may_stay_open(dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    model = calibrated()
    file = export(model, X, tmp_path / "m.onnx", opset=18, dynamo=dynamo, dynamic_batch=True, output_names=["y"])
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert answers(file, torch.cat([X, X, X])).shape == (6, 3)
    assert answers(file, X[:1]).shape == (1, 3)


class Flagged(Net):
    """Takes an argument that is no tensor, one that may be left out, and a number."""

    def forward(self, x: Tensor, positive: bool = False, mask: Tensor | None = None, factor: float = 1.0) -> Tensor:
        out = super().forward(x) * factor
        return torch.relu(out) if positive else out


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("example", [(X, True), (X, False, None, 2.5), {"x": X, "positive": True}])
def test_the_batch_may_stay_open_beside_arguments_that_are_no_tensors(
    example: Any, dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    model = calibrated(Flagged())
    file = export(model, example, tmp_path / "m.onnx", opset=18, dynamo=dynamo, dynamic_batch=True)
    assert [bool(i.type.tensor_type.shape.dim[0].dim_param) for i in file.graph.input] == [True]
    assert answers(file, torch.cat([X, X])).shape == (4, 3)


@pytest.mark.parametrize("dynamo", [False, True])
def test_half_precision_has_half_precision_scales_and_no_casts(dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    model = calibrated().half()
    written = export(model, X.half(), tmp_path / "m.onnx", opset=19, dynamo=dynamo)
    graph = Graph(written)
    assert not graph.nodes("Cast")
    assert {p.types for p in pairs(graph)} == {("float16", "int8")}
    with pytest.raises(TorchError, match=r"half precision needs opset 19"):
        export(model, X.half(), tmp_path / "n.onnx", opset=17)
    assert not (tmp_path / "n.onnx").exists()


def test_a_quantizer_without_amax_is_an_error_by_name_where_it_runs(tmp_path: Path) -> None:
    """The library would write the amax of the example input, and say nothing."""
    model = Net()
    quantize(model)
    with pytest.raises(TorchError, match=r"conv._input_quantizer cannot be exported: it has no amax"):
        export(model, X, tmp_path / "m.onnx")
    calibrate(model, [X])
    quantizers(model)["side._input_quantizer"].set_amax(torch.tensor(float("nan")))
    with pytest.raises(TorchError, match=r"side._input_quantizer .* not finite"):
        export(model, X, tmp_path / "m.onnx")
    quantizers(model)["side._input_quantizer"].set_amax(torch.tensor(0.0))
    with pytest.raises(TorchError, match=r"side._input_quantizer .* is 0"):
        export(model, X, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir()) and all(q._writer is None for q in quantizers(model).values())
    quantizers(model)["side._input_quantizer"].disable()
    export(model, X, tmp_path / "m.onnx")


def test_a_quantizer_that_does_not_run_may_lack_its_amax(tmp_path: Path) -> None:
    model = Net()
    model.spare = nn.Conv2d(1, 1, 1)
    written = export(calibrated(model), X, tmp_path / "m.onnx")
    assert "spare" not in onnx.printer.to_text(written.graph) and len(list(pairs(Graph(written)))) > 2


@pytest.mark.parametrize("quantized", [False, True])
def test_a_network_in_float_is_exported_as_it_is(quantized: bool, tmp_path: Path) -> None:
    """Before it is quantized, and with every quantizer off."""
    model = residual()
    if quantized:
        quantize(model)
        for quantizer in quantizers(model).values():
            quantizer.disable()
    written = export(model, X, tmp_path / "a.onnx")
    assert not any("QuantizeLinear" in node.op_type for node in written.graph.node)
    assert onnx.load(tmp_path / "a.onnx") == written


def test_an_empty_channel_has_scale_one(tmp_path: Path) -> None:
    model = Net()
    with torch.no_grad():
        model.conv.weight[2] = 0
    graph = Graph(export(calibrated(model), X, tmp_path / "m.onnx"))
    (weights,) = (p for p in pairs(graph) if p.kind == "weight" and p.scale is not None and p.scale.size == 6)
    assert weights.scale is not None and weights.scale[2] == 1 and (weights.scale > 0).all()


def test_what_tensorrt_refuses_is_refused_by_name(tmp_path: Path) -> None:
    four = calibrated(config=Config(layers=(Layers("fc", {"num_bits": 4}, {}),)))
    with pytest.raises(TorchError, match=r"not \[4\] bits: fc._input_quantizer"):
        export(four, X, tmp_path / "m.onnx")
    unsigned = calibrated(config=Config(layers=(Layers("conv", {"unsigned": True}, {}),)))
    with pytest.raises(TorchError, match=r"rejects UINT8 pairs: conv._input_quantizer"):
        export(unsigned, X, tmp_path / "m.onnx")
    written = export(unsigned, X, tmp_path / "m.onnx", uint8=True)
    assert ("float32", "uint8") in {p.types for p in pairs(Graph(written))}
    np.testing.assert_allclose(answers(written, X), unsigned(X).detach().numpy(), atol=0.02)
    for opset, dynamo, message in (
        (12, False, "opset 13 to 20"),
        (21, False, "opset 13 to 20"),
        (17, True, "18 to 20"),
    ):
        with pytest.raises(TorchError, match=message):
            export(calibrated(), X, tmp_path / "n.onnx", opset=opset, dynamo=dynamo)


def test_the_dynamo_exporter_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TorchError, match=r"needs onnxscript: pip install 'onnxscript"):
        export(calibrated(), X, tmp_path / "m.onnx", opset=18, dynamo=True)
    assert not list(tmp_path.iterdir())


def test_calibrated_states_load_into_fresh_models_without_a_gpu() -> None:
    model = calibrated(config=Config(input=Spec(method="mse")))
    fresh = Net()
    quantize(fresh)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.eval()(X), model(X))


@pytest.mark.parametrize("build", [lambda: residual(), Dense])
def test_linked_and_functional_quantizers_are_exported_too(build: type[nn.Module], tmp_path: Path) -> None:
    model = build().eval()
    quantize(model)
    link(model, X)
    calibrate(model, [X])
    written = export(model, X, tmp_path / "m.onnx")
    assert not qdqgraph.check(written, qdqgraph.rules())
    with torch.no_grad():
        expected = model(X).numpy()
    np.testing.assert_allclose(answers(written, X), expected, atol=0.03 * float(np.abs(expected).max()))


def test_a_file_that_cannot_be_written_is_an_error_and_an_old_one_stays(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere does not exist"):
        export(calibrated(), X, tmp_path / "nowhere" / "net.onnx")
    file = tmp_path / "net.onnx"
    export(calibrated(), X, file)
    before = file.read_bytes()
    export(calibrated(), X, str(file), force=True)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
