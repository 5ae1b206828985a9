"""The interface between this package and a library of quantizers, with pytorch-quantization."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import nn

from qdqgraph.cli import torch_arguments
from qdqgraph.cli.parsers import Parser, commands_of
from qdqgraph.errors import TorchError
from qdqgraph.torch import Network, Preparation, calibrate, quantize, quantize_network, quantizers, tie
from qdqgraph.torch.quantizer.backend import BACKENDS, MODELOPT, TOOLKIT, find_backend
from qdqgraph.torch.quantizer.base import Quantizer
from qdqgraph.torch.quantizer.quantizer import backend_of, convert_quantizers, qnn
from tests.support.torch_networks import X, residual


@pytest.mark.parametrize(
    ("path", "weight", "layer"),
    [
        ("stem.conv._input_quantizer", False, "stem.conv"),
        ("stem.conv._weight_quantizer", True, "stem.conv"),
        ("lstm._weight_quantizers.1", True, "lstm"),
        ("lstm._input_quantizers.0", False, "lstm"),
        ("block._functional.add_0._input1_quantizer", False, "block._functional.add_0"),
        ("block.residual_quantizer", False, "block.residual_quantizer"),
    ],
)
def test_names_of_quantizers(path: str, weight: bool, layer: str) -> None:
    library = find_backend(TOOLKIT)
    assert (library.is_weight(path), library.layer_of(path)) == (weight, layer)


def test_a_new_quantizer_rounds_collects_and_passes_values_on() -> None:
    quantizer = find_backend(TOOLKIT).new(8, None, False)
    assert (quantizer.num_bits, quantizer.axis, quantizer.unsigned, quantizer.amax) == (8, None, False, None)
    quantizer.set_amax(torch.tensor(1.27))
    x = torch.tensor([0.014, -2.0])
    assert torch.allclose(quantizer(x), torch.tensor([0.01, -1.28]))
    seen: list[torch.Tensor] = []

    class Keep:
        def collect(self, x: torch.Tensor) -> None:
            seen.append(x)

    quantizer.collect_with(Keep())
    assert quantizer(x) is x and seen == [x]
    quantizer.pause_collecting()
    assert quantizer(x) is x and len(seen) == 1
    quantizer.stop_collecting()
    quantizer.disable()
    assert quantizer(x) is x
    quantizer.enable()
    assert not torch.equal(quantizer(x), x)


def test_the_quantizers_of_a_library_are_adopted_and_those_of_derived_classes_are_not() -> None:
    class Own(qnn.TensorQuantizer):
        pass

    model = nn.ModuleList([qnn.TensorQuantizer(), Own()])
    convert_quantizers(model)
    assert isinstance(model[0], Quantizer) and not isinstance(model[1], Quantizer)
    assert backend_of(model).name == TOOLKIT == backend_of(nn.Identity()).name


def test_tied_quantizers_are_one_object() -> None:
    model = residual()
    quantize(model)
    tie(model, [("0.conv1._input_quantizer", "0.conv2._input_quantizer")])
    calibrate(model, [X])
    assert model.get_submodule("0.conv1")._input_quantizer is model.get_submodule("0.conv2")._input_quantizer
    assert "0.conv2._input_quantizer" not in quantizers(model)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(TorchError, match="there is no backend 'other': write pytorch-quantization or modelopt"):
        quantize(residual(), backend="other")


@pytest.mark.skipif(importlib.util.find_spec("modelopt") is not None, reason="Model Optimizer is installed")
def test_a_backend_that_is_not_installed_is_named_before_anything_runs() -> None:
    network = Network(lambda: pytest.fail("the network was built"), lambda: [X])
    with pytest.raises(TorchError, match=r"backend 'modelopt' needs its library: pip install 'qdqgraph\[modelopt\]'"):
        quantize_network(network, "m.onnx", preparation=Preparation(backend=MODELOPT))


def test_model_optimizer_is_imported_only_when_it_is_used() -> None:
    code = "import sys, qdqgraph.torch; sys.exit('modelopt' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_the_command_line_offers_every_backend() -> None:
    assert torch_arguments.BACKENDS == BACKENDS
    side = Parser()
    torch_arguments.add(side)
    for parser in commands_of(side):
        given = ["--model", "a:b", "--data", "a:c", "--eval", "a:d", "-o", "m"]
        assert parser.parse_args(given).backend == TOOLKIT
        assert parser.parse_args([*given, "--backend", MODELOPT]).backend == MODELOPT
