"""Models as people have them: layers with fast paths, arguments by name, shared modules, and models that no exporter supports."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import qdqgraph
from qdqgraph.errors import TorchError
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.torch import Config, Layers, Operator, Spec, calibrate, export, link, quantize, quantizers
from qdqgraph.torch.quantizer.quantizer import QuantDescriptor, new_quantizer
from tests.support.odd_networks import Block, answers
from tests.support.torch_networks import X, groups, residual


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        out: Tensor = self.encoder(x, src_key_padding_mask=mask)
        return out


def test_torchs_transformer_layers_do_not_pass_by_their_quantizers(tmp_path: Path) -> None:
    """In eval mode they hand the weights of their Linears to one operator; ONNX has none for it."""
    model, x = Encoder().eval(), torch.rand(2, 5, 16)
    with torch.no_grad():
        plain = model(x)
    done = quantize(model)
    assert done.left == ("encoder.layers.0.self_attn.out_proj",)
    assert not calibrate(model, [x]).unseen
    with torch.no_grad():
        expected = model(x)
        assert not torch.equal(expected, plain)
        torch.testing.assert_close(expected, plain, atol=0.05, rtol=0)
        masked = model(x, torch.tensor([[False] * 5, [False] * 3 + [True] * 2]))
    assert masked.shape == x.shape and torch.isfinite(masked[0]).all()
    export(model, x, tmp_path / "m.onnx")
    np.testing.assert_allclose(answers(tmp_path / "m.onnx", x)[0], expected.numpy(), atol=0.05)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("first", [False, True])
def test_an_lstm_takes_one_sequence_without_a_batch(first: bool) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.LSTM(4, 6, num_layers=2, batch_first=first)).eval()
    x, states = torch.rand(5, 4), (torch.rand(2, 6), torch.rand(2, 6))
    expected = [model[0](x), model[0](x, states)]
    quantize(model)
    for quantizer in quantizers(model).values():
        quantizer.disable()
    for (output, found), (other, kept) in zip([model[0](x), model[0](x, states)], expected, strict=True):
        torch.testing.assert_close((output, *found), (other, *kept))


def test_a_module_with_two_paths_is_meant_by_either() -> None:
    def build() -> Any:
        model: Any = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        model.add_module("again", model[0])
        return model

    assert quantize(build(), Config(ignore="again")).ignored == ("0",)
    model = build()
    quantize(model, Config(layers=(Layers("again", {"method": "entropy"}, {}),)))
    assert quantizers(model)["0._input_quantizer"].method == "entropy"


def test_a_refused_configuration_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(residual(), nn.Flatten(), nn.LSTM(256, 3))
    before = [(type(m), set(vars(m)), list(m._forward_pre_hooks), list(m._modules)) for m in model.modules()]
    operators = Operator("add"), Operator("cat")
    with pytest.raises(TorchError, match="no selected module calls 'cat'"):
        quantize(model, Config(operators=operators), X)
    assert before == [(type(m), set(vars(m)), list(m._forward_pre_hooks), list(m._modules)) for m in model.modules()]
    assert quantize(model, Config(operators=operators[:1]), X).inserted


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec(num_bits=0), "num_bits 0: write an integer from 2 to 16"),
        (Spec(num_bits="8"), "num_bits '8'"),  # type: ignore[arg-type]
        (Spec(axis=-1), "axis -1: write"),
        (Spec(axis=4), "0.conv1: its weight has 4 dimensions, so it has no axis 4"),
    ],
)
def test_what_no_quantizer_can_be_is_refused_by_name(spec: Spec, message: str) -> None:
    with pytest.raises(TorchError, match=message):
        quantize(residual(), Config(weight=spec))
    assert not quantize(residual(), Config(ignore="")).ignored


def test_ties_throw_amax_away_so_that_nobody_exports_a_part_of_the_range(tmp_path: Path) -> None:
    model = residual()
    quantize(model)
    calibrate(model, [X])
    link(model, X)
    shared = {path for group in groups(model) for path in group}
    assert shared and all(quantizers(model)[p].amax is None for p in shared if p in quantizers(model))
    with pytest.raises(TorchError, match="it has no amax: calibrate it"):
        export(model, X, tmp_path / "m.onnx")
    calibrate(model, [X])
    amaxes = {n: q.amax.clone() for n, q in quantizers(model).items()}
    link(model, X)
    assert all(torch.equal(q.amax, amaxes[n]) for n, q in quantizers(model).items()), "nothing new, nothing lost"


def test_half_precision_scales_are_never_zero(tmp_path: Path) -> None:
    model: Any = nn.Sequential(nn.Conv2d(4, 4, 1)).half()
    with torch.no_grad():
        model[0].weight[0] = 1e-7
    quantize(model)
    calibrate(model, [X.half()])
    graph = Graph(export(model, X.half(), tmp_path / "m.onnx", opset=19))
    (weights,) = (p for p in pairs(graph) if p.kind == "weight")
    assert weights.scale is not None and weights.scale.dtype == np.float16 and (weights.scale > 0).all()


def test_a_quantizer_that_does_not_round_writes_no_pair(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    quantize(model)
    calibrate(model, [X])
    quantizers(model)["1._input_quantizer"].disable_quant()
    kinds = [p.kind for p in pairs(Graph(export(model, X, tmp_path / "m.onnx")))]
    assert sorted(kinds) == ["activation", "weight", "weight"]


def test_a_pair_that_is_changed_in_place_serves_nobody_else(tmp_path: Path) -> None:
    class Changed(Block):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = new_quantizer(QuantDescriptor())

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.a(self.quantizer(x).relu_()) + self.b(self.quantizer(x))
            return out

    model, x = Changed().eval(), X - 0.5
    calibrate(model, [x])
    export(model, x, tmp_path / "m.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(answers(tmp_path / "m.onnx", x)[0], model(x).numpy(), atol=0.02)


def test_weights_of_inference_mode_are_exported(tmp_path: Path) -> None:
    with torch.inference_mode():
        model = residual()
    quantize(model)
    link(model, X)
    calibrate(model, [X])
    assert export(model, X, tmp_path / "m.onnx").graph.node


def test_what_cannot_be_exported_is_said_in_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TorchError, match=r"DataParallel.*\.module"):
        quantize(nn.DataParallel(residual()))
    wrapped = residual()
    quantize(wrapped)
    with pytest.raises(TorchError, match=r"DataParallel.*\.module"):
        link(nn.DataParallel(wrapped), X)
    with torch.device("meta"):
        empty = residual()
    quantize(empty)
    with pytest.raises(TorchError, match="on the meta device"):
        link(empty, X.to("meta"))

    class Strange(Block):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.linalg.matrix_exp(self.a(x))
            return out

    strange = Strange()
    quantize(strange)
    calibrate(strange, [X])
    with pytest.raises(TorchError, match=r"^torch cannot export the model: .*; try the dynamo exporter$"):
        export(strange, X, tmp_path / "m.onnx")
    uneven = nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(3))
    with pytest.raises(TorchError, match=r"not factor of input size[^\[]*; try the dynamo exporter$"):
        export(uneven, X, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir()) and not capfd.readouterr().out, "nor is its graph printed"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_whose_inside_cannot_be_changed_is_refused_with_what_to_pass() -> None:
    with pytest.raises(TorchError, match=r"is scripted or traced .*pass the original module"):
        quantize(torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1))))
    with pytest.raises(TorchError, match=r"^the model is compiled .*\._orig_mod"):
        quantize(torch.compile(residual()))  # type: ignore[arg-type]
    model: Any = residual()
    quantize(model)
    model[0].compile()
    with pytest.raises(TorchError, match=r"^0 is compiled .* compile it afterwards"):
        link(model, X)
    nothing = nn.Sequential(nn.ReLU())
    assert not quantize(nothing).replaced
    with pytest.raises(TorchError, match="if that replaced nothing, no module can be quantized"):
        link(nothing, X)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_model_is_linked_and_exported(reentrant: bool, tmp_path: Path) -> None:
    class Checkpointed(Block):
        def forward(self, x: Tensor) -> Tensor:
            y = checkpoint(self.a, x, use_reentrant=reentrant) + x
            out: Tensor = self.b(torch.relu(y)) + x
            return out

    model = Checkpointed().eval()
    quantize(model)
    assert link(model, X).added
    calibrate(model, [X])
    found = export(model, X, tmp_path / "m.onnx")
    assert not [n for n in found.graph.node if n.domain] and not qdqgraph.check(found, qdqgraph.rules())


def test_everything_works_while_torch_is_patched_by_the_library() -> None:
    """`initialize` twice and `deactivate` once may leave torch.nn patched, before this package is imported or after."""
    code = """
import torch
from pytorch_quantization import quant_modules
plain = torch.nn.modules.conv.Conv2d, torch.nn.modules.linear.Linear
quant_modules.initialize(); quant_modules.initialize(); quant_modules.deactivate()
torch.nn.Conv2d, torch.nn.Linear = quant_modules.quant_nn.QuantConv2d, quant_modules.quant_nn.QuantLinear
from qdqgraph.torch import calibrate, fold_norms, quantize
conv = lambda: plain[0](4, 4, 1)
model = torch.nn.Sequential(conv(), torch.nn.BatchNorm2d(4), conv(), torch.nn.Flatten(), plain[1](16, 2))
x = torch.rand(2, 4, 2, 2)
assert fold_norms(model, x) == ("1",)
assert quantize(model).replaced == ("0", "2", "4"), quantize
assert not calibrate(model, [x]).unseen
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_copied_model_is_independent_whoever_else_has_hooks() -> None:
    model: Any = residual()
    calls: list[str] = []
    model[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model[1].register_forward_hook(lambda module, args, output: calls.append("after"))
    quantize(model)
    assert link(model, X).added
    calibrate(model, [X])
    calls.clear()
    copied = copy.deepcopy(model)
    assert torch.equal(copied(X), model(X)) and calls == ["after", "after"]
