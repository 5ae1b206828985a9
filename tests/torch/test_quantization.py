"""`quantize`: quantized modules in place, policies, and quantizers at functional operators."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn
from torch.nn import functional

from qdqgraph import RuleError
from qdqgraph.errors import TorchError
from qdqgraph.torch import Config, Layers, Operator, QuantAdd, QuantConcat, Spec, calibrate, quantize, quantizers
from qdqgraph.torch.calls.places import places
from tests.support.torch_networks import Bottleneck, X, residual

SUPPORTED: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular"), (2, 4, 9)),
    (nn.Conv2d(4, 6, (3, 5), stride=2, padding=2, dilation=2, groups=2, bias=False), (2, 4, 19, 19)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 9, 9)),
    (nn.Conv3d(2, 3, 3, padding=1, padding_mode="replicate"), (2, 2, 5, 5, 5)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (2, 4, 9)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 9, 9)),
    (nn.ConvTranspose3d(2, 3, 2), (2, 2, 4, 4, 4)),
    (nn.Linear(8, 5, dtype=torch.float64), (3, 8)),
    (nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True), (3, 5, 8)),
    (nn.LSTMCell(8, 6, bias=False), (3, 8)),
    (nn.AvgPool1d(3, 2), (2, 4, 9)),
    (nn.AvgPool2d(3, 2, divisor_override=2), (2, 4, 9, 9)),
    (nn.AvgPool3d(2), (2, 4, 4, 4, 4)),
    (nn.AdaptiveAvgPool1d(3), (2, 4, 9)),
    (nn.AdaptiveAvgPool2d(3), (2, 4, 9, 9)),
    (nn.AdaptiveAvgPool3d(2), (2, 4, 4, 4, 4)),
]
"""A module of every class that the library has a quantized counterpart of, and the shape of an input."""


@pytest.mark.parametrize(
    ("module", "shape"), SUPPORTED, ids=lambda p: type(p).__name__ if isinstance(p, nn.Module) else ""
)
def test_every_twin_keeps_what_the_module_was_and_computes_the_same(module: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(copy.deepcopy(module)).eval()
    calls: list[nn.Module] = []
    model[0].register_forward_hook(lambda m, i, o: calls.append(m))
    model[0].register_buffer("own", torch.ones(3))
    old = model[0]
    weights = dict(model.named_parameters())
    dtype = next(iter(weights.values())).dtype if weights else torch.float32
    x = torch.rand(shape, dtype=dtype)
    with torch.no_grad():
        expected = module(x)
    assert quantize(model).replaced == ("0",)
    assert model[0] is old and calls == [] and "0.own" in dict(model.named_buffers())
    assert all(p is weights[n] for n, p in model.named_parameters())
    assert type(model[0]).__name__ == f"Quant{type(module).__name__}"
    for quantizer in quantizers(model).values():
        quantizer.disable()
    with torch.no_grad():
        found = model(x)
    assert calls == [old]
    for a, b in zip(_flat(expected), _flat(found), strict=True):
        torch.testing.assert_close(a, b)
    for quantizer in quantizers(model).values():
        quantizer.enable()
    with torch.no_grad():
        noisy = _flat(model(x))[0]
    assert not torch.equal(noisy, _flat(expected)[0]) and noisy.dtype == dtype
    assert float((noisy - _flat(expected)[0]).abs().max()) < 0.05 * float(_flat(expected)[0].abs().max())


def _flat(out: Any) -> list[Tensor]:
    return [out] if isinstance(out, Tensor) else [x for part in out for x in _flat(part)]


def test_weights_are_quantized_per_output_channel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ConvTranspose2d(5, 7, 2))
    quantize(model)
    calibrate(model, [torch.rand(2, 3, 4, 4)])
    shapes = {n: tuple(q.amax.shape) for n, q in quantizers(model).items() if "weight" in n}
    assert shapes == {"0._weight_quantizer": (5, 1, 1, 1), "1._weight_quantizer": (1, 7, 1, 1)}


def test_modules_that_the_library_has_patched_into_torch_are_replaced_all_the_same() -> None:
    """`initialize` twice and `deactivate` once may leave torch.nn patched; nothing here depends on torch.nn's names."""
    from pytorch_quantization import quant_modules

    own = nn.modules.conv.Conv2d
    quant_modules.initialize()
    try:
        model = nn.Sequential(own(3, 4, 1))
        assert quantize(model).replaced == ("0",)
    finally:
        quant_modules.deactivate()
    assert nn.Conv2d is own


class Neck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lateral, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.cat([self.lateral(x), x], 1))
        return out


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Neck(), nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)))


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        ("3", {"3.0", "3.1"}),
        ("2.*", {"2.lateral", "2.head"}),
        (r"re:.*\.[01]", {"3.0", "3.1"}),
        (re.compile("[03]"), {"0", "3.0", "3.1"}),
        (["0", "2.head"], {"0", "2.head"}),
        (lambda path, module: module.kernel_size == (3, 3), {"0"}),
    ],
)
def test_ignored_modules_are_named_by_glob_regex_list_or_function(ignore: Any, expected: set[str]) -> None:
    model = network()
    done = quantize(model, Config(ignore=ignore))
    assert set(done.ignored) == expected
    assert {n.rpartition("._")[0] for n in quantizers(model)} == {"0", "2.lateral", "2.head", "3.0", "3.1"} - expected


@pytest.mark.parametrize("ignore", ["2.haed", ["0", "4"], "re:(", re.compile("nothing")])
def test_a_pattern_that_fits_nothing_is_an_error_and_changes_nothing(ignore: Any) -> None:
    model = network()
    before = [type(m) for m in model.modules()]
    with pytest.raises(TorchError, match=r"no module matches|not a regular expression|no regular expression"):
        quantize(model, Config(ignore=ignore))
    assert [type(m) for m in model.modules()] == before
    with pytest.raises(TorchError, match=r"did you mean '2\.head'"):
        quantize(model, Config(ignore="2.haed"))


def test_subclasses_that_compute_something_else_are_left_and_named() -> None:
    class Product(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight[0, 0, 0, 0]

    model = nn.Sequential(Product(3, 4, 1), nn.LSTM(4, 8, proj_size=2))
    done = quantize(model)
    assert done.left == ("0", "1") and done.reasons == {"0": "its forward does not call conv2d"}


def test_a_configuration_file_says_max_everywhere_but_entropy_here(tmp_path: Path) -> None:
    file = tmp_path / "quantize.toml"
    file.write_text(
        'ignore = ["0"]\n[[layers]]\nmodules = ["2.*"]\ninput = {method = "entropy"}\nweight = {axis = "none"}\n'
        '[[operators]]\noperator = "cat"\n'
    )
    model = network()
    done = quantize(model, Config.read(file), torch.rand(1, 3, 8, 8))
    methods = {n: q.method for n, q in quantizers(model).items() if "input" in n}
    assert methods["2.lateral._input_quantizer"] == "entropy" and methods["3.0._input_quantizer"] == "max"
    assert quantizers(model)["2.head._weight_quantizer"].axis is None
    assert done.inserted == ("2._functional.cat_0._input0_quantizer", "2._functional.cat_0._input1_quantizer")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('ignored = ["0"]', "did you mean 'ignore'"),
        ('[input]\nmethod = "mean"', ":2: input method is 'mean'; write one of max"),
        ("[input]\nnum_bits = 99", "num_bits"),
    ],
)
def test_mistakes_in_the_file_are_named_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "quantize.toml"
    file.write_text(text)
    with pytest.raises(RuleError, match=re.escape(message)):
        Config.read(file)


def test_a_histogram_has_no_channels() -> None:
    with pytest.raises(TorchError, match="0: method 'mse' searches one histogram, but axis 0"):
        quantize(network(), Config(weight=Spec(method="mse")))
    assert quantize(network(), Config(weight=Spec(method="mse", axis=None))).replaced


def test_layers_from_python_take_the_same_patterns() -> None:
    model = network()
    quantize(model, Config(layers=(Layers(re.compile("3"), {"num_bits": 4}, {"num_bits": 4}),)))
    assert {q.num_bits for n, q in quantizers(model).items() if n.startswith("3.")} == {4}
    with pytest.raises(TorchError, match="no such entry"):
        quantize(network(), Config(layers=(Layers("3", {"bits": 4}, {}),)))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [("both", {"0": {0, 1}, "1": {0, 1}}), ("skip", {"0": {1}, "1": {1}}), ("downsample", {"0": {1}, "1": {0, 1}})],
)
def test_residual_adds_get_quantizers_without_another_forward(inputs: str, expected: dict[str, set[int]]) -> None:
    model = residual().eval()
    original = {type(m): type(m).forward for m in model.modules()}
    plain = model(X)
    quantize(model, Config(operators=(Operator("add", inputs),)), X)
    found: dict[str, set[int]] = {}
    for place in places(model).values():
        found.setdefault(place.module, set()).add(place.operand)
    assert found == expected
    assert all(kind.forward is forward for kind, forward in original.items())
    for quantizer in quantizers(model).values():
        quantizer.disable()
    assert torch.equal(model(X), plain)
    for name in places(model):
        quantizers(model)[name].enable()
    assert not torch.equal(model(X), plain)
    torch.testing.assert_close(model(X), plain, atol=0.05, rtol=0.1)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_branch_is_quantized_in_its_second_run_as_well(reentrant: bool) -> None:
    """Outside of any forward, in the backward pass; the gradients are those of the same network without checkpoints."""
    gradients = []
    for checkpointed in (None, reentrant):
        model = residual(checkpointed)
        quantize(model, Config(operators=(Operator("add"),)), X)
        calibrate(model, [X])
        for quantizer in quantizers(model).values():
            quantizer.set_amax(quantizer.amax / 4)  # so that clipping, and its zero gradients, show
        x = X.clone().requires_grad_()
        model(x).square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_call_keeps_its_quantizer_whatever_other_branches_run() -> None:
    class Conditional(nn.Module):
        extra = False

        def forward(self, x: Tensor) -> Tensor:
            if self.extra:
                x = x + x.mean()
            for _ in range(2):
                x = x + functional.max_pool2d(x, 3, 1, 1)
            return torch.cat([x, functional.interpolate(x, scale_factor=0.5).repeat(1, 1, 2, 2) * x], 1)

    conditional = Conditional()
    model = nn.Sequential(conditional, nn.Conv2d(8, 2, 1))
    quantize(model, Config(operators=tuple(map(Operator, ("add", "max_pool2d", "mul", "interpolate", "cat")))), X)
    kept = {str(p): n for n, p in places(model).items()}
    assert sum("add" in n for n in kept.values()) == 4 and sum("pass 2" in p for p in kept) == 3
    calibrate(model, [X])
    before = {n: q.amax.clone() for n, q in quantizers(model).items()}
    conditional.extra = True
    report = calibrate(model, [X])
    assert not report.unseen
    assert any(not torch.equal(before[n], q.amax) for n, q in quantizers(model).items())


def test_operators_are_chosen_by_module_and_by_class() -> None:
    class Other(Bottleneck):
        pass

    def build() -> nn.Module:
        return nn.ModuleDict({"backbone": residual(), "neck": nn.Sequential(Other(False, None))})

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts: Any = build()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.parts["neck"](self.parts["backbone"](x))
            return out

    model = Whole()
    quantize(model, Config(operators=(Operator("add", "skip", modules="parts.backbone"),)), X)
    assert {p.module for p in places(model).values()} == {"parts.backbone.0", "parts.backbone.1"}
    model = Whole()
    quantize(model, Config(operators=(Operator("add", "skip", classes=("Other",)),)), X)
    assert {p.module for p in places(model).values()} == {"parts.neck.0"}


@pytest.mark.parametrize(
    ("operator", "example", "message"),
    [
        (Operator("cat"), X, "no selected module calls 'cat'; the model calls add"),
        (Operator("add", "left"), X, "no inputs = 'left'"),
        (Operator("mul", "skip"), X, "has no skip"),
        (Operator("add"), None, "give an example input"),
    ],
)
def test_operators_that_cannot_be_found_are_errors(operator: Operator, example: Any, message: str) -> None:
    with pytest.raises(TorchError, match=message):
        quantize(residual(), Config(operators=(operator,)), example)


def test_a_copied_model_has_quantizers_of_its_own() -> None:
    model = residual()
    quantize(model, Config(operators=(Operator("add"),)), X)
    calibrate(model, [X])
    copied = copy.deepcopy(model)
    for quantizer in quantizers(copied).values():
        quantizer.disable()
    assert torch.equal(copied(X), residual()(X)) and not torch.equal(model(X), residual()(X))


def test_hand_written_modules_quantize_what_they_are_told_to() -> None:
    calls = {"both": 2, "skip": 1}
    for inputs, count in calls.items():
        add = QuantAdd(inputs)
        assert len(quantizers(add)) == count
        calibrate(add, [(X, X)], feed=lambda m, b: m(*b))
        torch.testing.assert_close(add(X, X), 2 * X, atol=0.01, rtol=0.01)
    assert [len(quantizers(QuantAdd("downsample", downsample=d))) for d in (True, False)] == [2, 1]
    concat = QuantConcat()
    calibrate(concat, [(X, 2 * X, 3 * X)], feed=lambda m, b: m(*b))
    assert float(quantizers(concat)["_input_quantizer"].amax) == float(3 * X.max())
    assert concat(X, X, X).shape == (2, 12, 8, 8)
    with pytest.raises(TorchError, match="no inputs='all'"):
        QuantAdd("all")
