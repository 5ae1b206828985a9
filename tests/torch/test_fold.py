"""`fold_norms`: exact where it folds, and whatever else a module does stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn
from torch.nn import functional

from qdqgraph.torch import fold_norms

X = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


class Activated(nn.BatchNorm2d):
    """A norm with its activation inside, as many model zoos have it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(super().forward(x))
        return out


class Twofold(nn.BatchNorm2d):
    """A norm that another one follows inside of it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.inner = nn.BatchNorm2d(channels)
        nn.init.constant_(self.bias, 3)  # so that the ReLU leaves something
        nn.init.uniform_(cast(Tensor, self.inner.running_var), 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(torch.relu(super().forward(x)))
        return out


class Repeated(nn.BatchNorm2d):
    """A norm that normalizes twice."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.relu(super().forward(x)))


class Centred(nn.BatchNorm2d):
    """A norm whose factor is not its weight: the weight is what it differs from one by."""

    def forward(self, x: Tensor) -> Tensor:
        weight = 1 + self.weight
        return functional.batch_norm(x, self.running_mean, self.running_var, weight, bias=self.bias, eps=self.eps)


class Standardized(nn.Conv2d):
    """A convolution that changes its weight before it uses it."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


class Pair(nn.Module):
    """A convolution, its norm, and what becomes of the tensor between them."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], norm: nn.Module, conv: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(4, 4, 1) if conv is None else conv, norm
        self.run = forward
        for buffer in (norm.running_mean, norm.running_var):
            assert isinstance(buffer, Tensor)
            nn.init.uniform_(buffer, 0.5, 2)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


class Tied(Pair):
    """With a second convolution."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], norm: nn.Module) -> None:
        super().__init__(forward, norm)
        self.other = nn.Conv2d(4, 4, 1)


def plain(net: Any, x: Tensor) -> Any:
    return net.norm(net.conv(x))


def returned(net: Any, x: Tensor) -> Any:
    y = net.conv(x)
    return net.norm(y), y


def kept(net: Any, x: Tensor) -> Any:
    net.feature = net.conv(x)
    return net.norm(net.feature), net.feature * 1


with pytest.warns(DeprecationWarning):
    HIDDEN = torch.jit.trace(lambda x: x * 2, X)  # type: ignore[no-untyped-call]


def scripted(net: Any, x: Tensor) -> Any:
    y = net.conv(x)
    return net.norm(y) + HIDDEN(y)


def transposed(net: Any, x: Tensor) -> Any:
    return functional.conv_transpose2d(torch.relu(plain(net, x)), net.conv.weight)


def transposed_data(net: Any, x: Tensor) -> Any:
    return functional.conv_transpose2d(torch.relu(plain(net, x)), net.conv.weight.data)


def biased(net: Any, x: Tensor) -> Any:
    return plain(net, x) + net.conv.bias.view(1, -1, 1, 1)


def factored(net: Any, x: Tensor) -> Any:
    return plain(net, x) * net.norm.weight.view(1, -1, 1, 1)


def shown(net: Any, x: Tensor) -> Any:
    return plain(net, x), net.conv.weight


def tied(net: Any, x: Tensor) -> Any:
    net.other.weight = net.conv.weight
    return net.other(plain(net, x))


def standardized(conv: Any, name: str) -> nn.Module:
    """The convolution with one of its methods set anew, as those do who patch a network that they have not written."""
    if name == "forward":
        conv.forward = lambda x: functional.conv2d(x, conv.weight - conv.weight.mean(), conv.bias)
    else:
        conv._conv_forward = lambda x, weight, bias: functional.conv2d(x, weight - weight.mean(), bias)
    return conv


def relu_behind(norm: Any) -> nn.Module:
    forward = norm.forward
    norm.forward = lambda x: torch.relu(forward(x))
    return norm


def hooked(conv: nn.Module) -> nn.Module:
    conv.register_forward_hook(lambda module, args, output: output * 2)
    return conv


def weighted() -> nn.Module:
    torch.manual_seed(0)
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Conv2d(4, 4, 1))


CASES: dict[str, tuple[Callable[[], Pair], bool]] = {
    "folded": (lambda: Pair(plain, nn.BatchNorm2d(4)), True),
    "a norm with an activation": (lambda: Pair(plain, Activated(4)), True),
    "between them it is the model's output": (lambda: Pair(returned, nn.BatchNorm2d(4)), False),
    "between them it is kept": (lambda: Pair(kept, nn.BatchNorm2d(4)), False),
    "between them scripted code reads it": (lambda: Pair(scripted, nn.BatchNorm2d(4)), False),
    "a convolution of a class of its own": (lambda: Pair(plain, nn.BatchNorm2d(4), Standardized(4, 4, 1)), False),
    "a norm with another inside": (lambda: Pair(plain, Twofold(4)), True),
    "a norm that normalizes twice": (lambda: Pair(plain, Repeated(4)), False),
    "a norm by other factors than its weight": (lambda: Pair(plain, Centred(4)), False),
    "another operator reads the weight": (lambda: Pair(transposed, nn.BatchNorm2d(4)), False),
    "another operator reads the weight's data": (lambda: Pair(transposed_data, nn.BatchNorm2d(4)), False),
    "another operator reads the bias": (lambda: Pair(biased, nn.BatchNorm2d(4)), False),
    "another operator reads the norm's weight": (lambda: Pair(factored, nn.BatchNorm2d(4)), False),
    "the weight is the model's output": (lambda: Pair(shown, nn.BatchNorm2d(4)), False),
    "another layer has the same weight": (lambda: Tied(tied, nn.BatchNorm2d(4)), False),
    "a forward of its own": (
        lambda: Pair(plain, nn.BatchNorm2d(4), standardized(nn.Conv2d(4, 4, 1), "forward")),
        False,
    ),
    "a convolution with a patched method": (
        lambda: Pair(plain, nn.BatchNorm2d(4), standardized(nn.Conv2d(4, 4, 1), "_conv_forward")),
        False,
    ),
    "a norm with a forward of its own": (lambda: Pair(plain, relu_behind(nn.BatchNorm2d(4))), False),
    "a convolution with a hook": (lambda: Pair(plain, nn.BatchNorm2d(4), hooked(nn.Conv2d(4, 4, 1))), False),
    "a weight that is made anew": (lambda: Pair(plain, nn.BatchNorm2d(4), weighted()), False),
    "a parametrized weight": (
        lambda: Pair(plain, nn.BatchNorm2d(4), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))),
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_computes_what_it_computed(case: str) -> None:
    build, folds = CASES[case]
    model = build().eval()
    expected = model(X)
    assert bool(fold_norms(model, X)) == folds
    torch.testing.assert_close(model(X), expected)


def test_what_a_norm_does_beside_normalizing_stays_and_is_a_module_still() -> None:
    model = Pair(plain, Activated(4)).eval()
    copied = copy.deepcopy(model)
    fold_norms(model, X)
    assert [n for n, m in model.named_modules() if isinstance(m, nn.ReLU)] == ["norm.norm.act"]
    model.norm.norm.weight.data.zero_()  # type: ignore[union-attr, operator]
    torch.testing.assert_close(model(X), copied(X))


def test_frozen_parameters_stay_frozen_and_half_precision_half() -> None:
    model = Pair(plain, nn.BatchNorm2d(4)).half().requires_grad_(False)
    fold_norms(model, X.half())
    assert {(p.requires_grad, p.dtype) for p in model.parameters()} == {(False, torch.half)}


def test_a_forward_may_take_keyword_arguments_alone() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Pair(plain, nn.BatchNorm2d(4))

        def forward(self, *, image: Tensor) -> Any:
            return self.body(image)

    assert fold_norms(Named(), {"image": X}) == ("body.norm",)
