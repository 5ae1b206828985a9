"""The sample networks: exported as their users would, repaired, and still the same network."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("pytorch_quantization")

import onnxruntime as ort
from torch import nn

import qdqgraph
from benchmarks.placement_table import bare_sides
from samples import export, networks, quantize

SIZE = 64
NOISE_DB = {"resnet18": 30.0, "yolov5s": 15.0}
"""SQNR of the repaired network against float; measured 34 and 18."""
VARIANTS = [("max", "none"), ("max", "skip"), ("histogram", "both")]


Exported = Callable[[str, str, str], onnx.ModelProto]


@functools.cache
def folded(name: str) -> nn.Module:
    network = networks.build(name, SIZE)
    networks.fold_norms(network)
    return network


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A network's file, quantized by a calibrator and a way to treat Adds, or in float ("", ""); exported once each."""
    path = tmp_path_factory.mktemp("samples") / "m.onnx"

    @functools.cache
    def written(name: str, calibrator: str, quant_add: str) -> bytes:
        network = copy.deepcopy(folded(name))
        if calibrator:
            quantize.swap(network, calibrator, quant_add)
            quantize.calibrate(network, (networks.images(4, SIZE, seed) for seed in (10, 11)), "percentile")
        quantize.export(network, networks.images(1, SIZE, 20), path, networks.SAMPLES[name].outputs)
        return path.read_bytes()

    return lambda *variant: onnx.load_from_string(written(*variant))


def answers(model: onnx.ModelProto) -> np.ndarray:
    """All outputs for four pictures, in one row."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = networks.images(4, SIZE, 30)[:, None]
    return np.concatenate([np.ravel(out) for x in pictures for out in session.run(None, {"images": x.numpy()})])


def sqnr(reference: np.ndarray, other: np.ndarray) -> float:
    return 10 * float(np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


@pytest.mark.parametrize(("calibrator", "quant_add"), VARIANTS)
@pytest.mark.parametrize("name", sorted(networks.SAMPLES))
def test_sample_is_repaired(name: str, calibrator: str, quant_add: str, exported: Exported) -> None:
    model = exported(name, calibrator, quant_add)
    onnx.checker.check_model(model)
    assert sum(n.op_type == "QuantizeLinear" for n in model.graph.node) > 30
    rules = qdqgraph.rules()
    result = qdqgraph.fix(model, rules)
    onnx.checker.check_model(result.model)
    assert not qdqgraph.fix(result.model, rules).applied
    assert not bare_sides(result.model)[2], "every residual Add ends with a bare convolution side and a paired skip"
    reference = answers(exported(name, "", ""))
    before, after = sqnr(reference, answers(model)), sqnr(reference, answers(result.model))
    assert after >= max(before - 1.5, NOISE_DB[name])


@pytest.mark.parametrize(("quant_add", "quantized_inputs"), [("none", 0), ("skip", 8), ("both", 16)])
def test_quant_add_quantizes_the_inputs_of_the_eight_adds(
    quant_add: str, quantized_inputs: int, exported: Exported
) -> None:
    model = exported("resnet18", "max", quant_add)
    # The exporter merges equal pairs on one tensor, so what the Adds read is counted, not the pairs.
    dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    read = [name for n in model.graph.node if n.op_type == "Add" for name in n.input]
    assert sum(name in dequantized for name in read) == quantized_inputs


def test_export_writes_a_file_of_the_asked_size(tmp_path: Path) -> None:
    export.export("yolov5s", tmp_path / "m.onnx", size=SIZE)
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [1, 3, SIZE, SIZE]
    sides = [o.type.tensor_type.shape.dim[2].dim_value for o in graph.output]
    assert sides == [SIZE // 8, SIZE // 16, SIZE // 32]
    assert not [n for n in graph.node if n.op_type == "BatchNormalization"]


def test_calibration_without_data_is_refused() -> None:
    network = copy.deepcopy(folded("resnet18"))
    quantize.swap(network, "max", "none")
    with pytest.raises(RuntimeError):
        quantize.calibrate(network, [], "percentile")
