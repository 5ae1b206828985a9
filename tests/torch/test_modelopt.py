"""Models that Model Optimizer quantized: linked, calibrated, analysed, trained, saved and exported like those of
pytorch-quantization."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("modelopt.torch.quantization")

import modelopt.torch.quantization as mtq
import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

import qdqgraph
from qdqgraph.errors import TorchError
from qdqgraph.graph.selectors import quantizers as known_paths
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit import pairs as graph_pairs
from qdqgraph.torch import (
    Config,
    Layers,
    Network,
    Operator,
    Preparation,
    Training,
    calibrate,
    compare_export,
    export,
    finetune,
    link,
    load,
    quantize,
    quantize_network,
    quantizers,
    save,
    sensitivity,
    tie,
)
from qdqgraph.torch.quantizer.backend import MODELOPT
from samples import networks
from tests.support.torch_networks import EXPORTERS, Dense, X, dynamo_or_skip, residual

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:modelopt.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
DATA = [torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]


def by_modelopt(model: nn.Module, config: Any = mtq.INT8_DEFAULT_CFG) -> nn.Module:
    quantized: nn.Module = mtq.quantize(model, config, lambda m: [m(x) for x in DATA])
    return quantized


def by_toolkit(model: nn.Module) -> nn.Module:
    quantize(model)
    return model


def pairs(proto: onnx.ModelProto) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in proto.graph.node)


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize("network", [residual, Dense])
def test_a_linked_model_is_that_of_pytorch_quantization(
    network: Callable[[], nn.Module], dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    found = []
    for quantized in (by_toolkit, by_modelopt):
        torch.manual_seed(0)
        model = quantized(network().eval())
        done = link(model, X, dynamo=dynamo)
        calibrate(model, DATA)
        proto = export(model, X, tmp_path / "m.onnx", dynamo=dynamo, force=True)
        enabled = sum(not q._disabled for q in quantizers(model).values())
        with torch.no_grad():
            found.append((model(X), len(done.groups), len(done.added), enabled, pairs(proto), done.unmapped))
        assert not qdqgraph.check(proto, qdqgraph.rules())
    (ours, *rest), (theirs, *others) = found
    assert rest == others and torch.equal(ours, theirs)


def test_no_weight_quantizer_is_lost() -> None:
    model = by_modelopt(residual())
    weights = {n for n, q in quantizers(model).items() if n.endswith("weight_quantizer") and not q._disabled}
    done = link(model, X)
    assert len(weights) == 5 and not done.disabled
    assert all(not quantizers(model)[n]._disabled for n in weights)


def test_linking_keeps_what_the_model_computes_until_it_is_calibrated() -> None:
    """A tie discards amax, and the quantizers that are added have none: both then use the range of each batch."""
    model = by_modelopt(residual().eval())
    untied = {n: float(q.amax.max()) for n, q in quantizers(model).items() if not q._disabled}
    done = link(model, X)
    tied = {path for group in done.groups for path in group}
    kept = {n: float(q.amax.max()) for n, q in quantizers(model).items() if not q._disabled and q.amax is not None}
    assert kept and kept == {n: a for n, a in untied.items() if n not in tied}


def test_layers_are_ranked_under_the_names_of_their_modules() -> None:
    model = by_modelopt(residual().eval())
    link(model, X)
    calibrate(model, DATA)
    with torch.no_grad():
        expected = residual().eval()(X)
    found = sensitivity(model, lambda m: -float((m.eval()(X) - expected).abs().mean().detach()))
    layers = {layer for unit in found.units for layer in unit.layers}
    assert {"0.conv1", "0.conv2", "1.conv1", "1.conv2", "1.downsample"} <= layers
    assert not any("quantizer" in layer for layer in layers)


def test_amax_is_trained_as_well() -> None:
    model, teacher = by_modelopt(residual()), residual()
    link(model, X)
    calibrate(model, DATA)
    first = {name: q.amax.clone() for name, q in quantizers(model).items() if q.amax is not None}
    finetune(model, teacher, DATA, training=Training(epochs=2, learn_amax=True))
    assert any(not torch.equal(q.amax, first[name]) for name, q in quantizers(model).items() if name in first)
    assert all(type(q).__name__ == "ModeloptQuantizer" for q in quantizers(model).values())


def test_training_lowers_the_loss() -> None:
    model, teacher = by_modelopt(residual()), residual()
    link(model, X)
    calibrate(model, DATA)
    done = finetune(model, teacher, DATA)
    assert done.losses[-1] < done.losses[0]


def test_a_state_is_restored_into_the_float_network(tmp_path: Path) -> None:
    model = by_modelopt(residual().eval())
    link(model, X)
    calibrate(model, DATA, method="entropy")
    save(model, tmp_path / "state.pt")
    for other in (residual().eval(), by_modelopt(residual().eval())):
        load(other, tmp_path / "state.pt")
        assert set(quantizers(other)) == set(quantizers(model))
        with torch.no_grad():
            assert torch.equal(other(X), model(X))


def test_a_model_in_half_precision_is_linked() -> None:
    model = by_modelopt(residual().eval()).to(torch.bfloat16)
    assert len(link(model, X.to(torch.bfloat16)).added) == 1


def test_a_configuration_applies_as_with_pytorch_quantization(tmp_path: Path) -> None:
    config = Config(
        ignore="1.conv1",
        layers=(Layers("0.conv1", {"method": "percentile", "percentile": 90.0}, {"axis": None}),),
        operators=(Operator("add"),),
    )
    outputs = []
    for backend in ("pytorch-quantization", MODELOPT):
        model = residual().eval()
        done = quantize(model, config, X, backend=backend)
        assert done.ignored == ("1.conv1",) and "1.conv1" not in done.replaced and len(done.inserted) == 4
        calibrate(model, DATA)
        outputs.append(model(X))
        assert pairs(export(model, X, tmp_path / "m.onnx", force=True)) == 12
    assert torch.equal(*outputs)


def test_a_model_of_modelopt_is_not_quantized_again() -> None:
    model = by_modelopt(nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)))
    with pytest.raises(TorchError, match="already contains quantizers: link and calibrate it"):
        quantize(model)


class Same(nn.Conv2d):
    """A forward of its own, as timm's Conv2dSame has: TensorFlow's padding."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, [0, 1, 0, 1])
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class Standardized(nn.Conv2d):
    """A weight that the forward computes."""

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def with_subclasses() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.ReLU(), Same(4, 4, 2), nn.ReLU(), Standardized(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
    ).eval()


def test_subclasses_that_the_library_leaves_in_float_are_named_and_quantized_on_demand(tmp_path: Path) -> None:
    """Model Optimizer converts a subclass only if it has the forward of its base class."""
    model = by_modelopt(with_subclasses())
    own = {name: q.amax.clone() for name, q in quantizers(model).items() if q.amax is not None}
    (left,) = link(copy.deepcopy(model), X).unmapped
    assert left.startswith("2 (Same), 4 (Standardized) stay in float: Model Optimizer does not convert")
    with pytest.raises(TorchError, match="link and calibrate it; backend='modelopt' adds those of 2, 4"):
        quantize(model)
    done = quantize(model, backend=MODELOPT)
    assert done.replaced == ("2", "4") and not done.left and not done.ignored
    assert all(torch.equal(quantizers(model)[name].amax, amax) for name, amax in own.items())
    assert not link(model, X).unmapped
    calibrate(model, DATA)
    proto = export(model, X, tmp_path / "m.onnx")
    assert compare_export(model, proto, X, DATA).agrees
    graph = Graph(proto)
    convolutions = graph.nodes("Conv")
    assert len(convolutions) == 4
    assert all(graph_pairs(graph).made(conv.inputs[1].name) is not None for conv in convolutions)
    assert not qdqgraph.check(proto, qdqgraph.rules())


def test_a_subclass_with_the_forward_of_its_base_class_is_converted_by_the_library() -> None:
    class Plain(nn.Conv2d):
        """Another class, the same forward."""

    model = by_modelopt(nn.Sequential(Plain(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval())
    assert "0.weight_quantizer" in quantizers(model) and not link(model, X).unmapped


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_a_tied_quantizer_is_exported_at_each_place(dynamo: bool, tmp_path: Path) -> None:
    """An export gives each place a copy of its own; the copies share amax, and the pairs have one scale and all paths."""
    dynamo_or_skip(dynamo)
    model = by_modelopt(residual().eval())
    calibrate(model, DATA)
    tied = ("0.conv1.input_quantizer", "1.conv1.input_quantizer", "1.downsample.input_quantizer")
    tie(model, [tied])
    calibrate(model, DATA)
    proto = export(model, X, tmp_path / "m.onnx", dynamo=dynamo)
    assert compare_export(model, proto, X, DATA).agrees
    graph = Graph(proto)
    sites = known_paths(graph)
    assert set(tied) <= set(sites)
    scales = {p.value for path in tied for site in sites[path] for p in graph_pairs(graph).at(site)}
    assert scales == {float(np.float32(float(model.get_submodule(tied[0]).amax) / 127))}  # type: ignore[arg-type]
    assert model.get_submodule(tied[0]) is model.get_submodule(tied[2])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (mtq.FP8_DEFAULT_CFG, "its format is floating-point, E4M3"),
        (mtq.INT4_BLOCKWISE_WEIGHT_ONLY_CFG, "is a StaticBlockScaleQuantizer"),
    ],
)
def test_formats_that_are_not_int8_are_refused(config: Any, reason: str) -> None:
    model = mtq.quantize(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(256, 128)), config)
    with pytest.raises(TorchError, match=reason):
        link(model, X)


def test_the_scale_of_smoothquant_is_part_of_the_graph(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten(2), nn.Linear(64, 8)).eval()
    mtq.quantize(model, mtq.INT8_SMOOTHQUANT_CFG, lambda m: [m(x) for x in DATA])
    assert any(q.pre_quant_scale is not None for q in quantizers(model).values())
    proto = export(model, X, tmp_path / "m.onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(X), atol=1e-5)


def nodes(proto: onnx.ModelProto) -> list[tuple[str, bytes]]:
    return [(n.op_type, a.t.raw_data) for n in proto.graph.node for a in (*n.attribute, onnx.AttributeProto())]


class Recurrent(nn.Module):
    """An LSTM between two Linears."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.lstm, self.last = nn.Linear(8, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(functional.relu(self.lstm(self.first(x.flatten(2)[..., :8]))[0]))
        return out


def test_a_tied_quantizer_of_a_recurrent_layer_is_used_by_its_function() -> None:
    model = by_modelopt(Recurrent().eval())
    before = quantizers(model)
    lstm = model.get_submodule("lstm")
    path = next(n for n in before if n.startswith("lstm.layer_0"))
    tie(model, [("first.input_quantizer", path)])
    assert before[path] not in lstm._input_quantizers  # type: ignore[operator]
    assert before["first.input_quantizer"] in lstm._input_quantizers  # type: ignore[operator]


def test_transformer_layers_are_calibrated_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.rand(2, 5, 16)
    mtq.quantize(model, {**mtq.INT8_DEFAULT_CFG, "algorithm": None})
    link(model, x)
    unseen = calibrate(model, [x]).unseen
    assert {name.rpartition(".")[0] for name in unseen} == {"self_attn.out_proj"}  # torch passes its weight on


def test_the_pipeline_quantizes_with_modelopt(tmp_path: Path) -> None:
    network = Network(residual, lambda: DATA)
    plain = quantize_network(network, tmp_path / "plain.onnx")
    done = quantize_network(network, tmp_path / "m.onnx", preparation=Preparation(backend=MODELOPT))
    assert not done.findings and nodes(done.proto) == nodes(plain.proto)
    assert {q.library.name for q in quantizers(done.prepared.model).values()} == {MODELOPT}
    copied = copy.deepcopy(done.prepared.model)
    with torch.no_grad():
        assert torch.equal(copied(X), done.prepared.model(X))


def test_a_whole_network_stores_the_same_bytes_as_with_pytorch_quantization(tmp_path: Path) -> None:
    written = []
    images = networks.images(1, 64, 20)
    for backend in ("pytorch-quantization", MODELOPT):
        model = networks.build("resnet18", 64)
        networks.fold_norms(model)
        quantize(model, backend=backend)
        assert len(link(model, images).added) == 8
        calibrate(model, [networks.images(2, 64, 10)])
        written.append(export(model, images, tmp_path / "m.onnx", force=True))
        assert not qdqgraph.check(written[-1], qdqgraph.rules())
    assert pairs(written[0]) == pairs(written[1])
