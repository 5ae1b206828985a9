# ruff: noqa: D102  # the class says what its forward does
"""Modules whose forward is odd: what it calls, in which order, and what it takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

C = 8
"""Channels of the inputs, which are [2, 8, 8, 8]."""


def conv(channels: int = C, out: int = C, kernel: int = 3, **more: Any) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, **more)


class Pair(nn.Module):
    """Two convolutions, and what a forward makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()


class CalledTwice(Pair):
    """One module at two places of the forward."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        out: Tensor = self.b(torch.relu(self.a(y)) + y)
        return out


class OneModuleTwoPaths(Pair):
    """One module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.a

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.again(torch.relu(self.a(x)))))
        return out


class DataDependent(Pair):
    """A branch that the values of the input choose; tracing keeps that of the example."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(x) + x) if bool(x.mean() > -1) else self.a(x)
        return out


class InPlace(Pair):
    """`+=`, `mul_`, `relu_`."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y.mul_(0.5)
        y += x
        y.relu_()
        out: Tensor = self.b(y)
        out += y
        return out.relu_()


class ModuleListLoop(nn.Module):
    """A loop over a ModuleList, with a skip in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x) + x)
        return x


class IndexedSequential(nn.Sequential):
    """A subclass of nn.Sequential whose forward calls its modules by index."""

    def __init__(self) -> None:
        super().__init__(conv(), conv(), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self[1](self[2](self[0](x))) + x
        return out


class NestedOutput(Pair):
    """Dictionaries, tuples and lists of tensors."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = torch.relu(self.a(x))
        return {"boxes": (y, [self.b(y)]), "scores": {"low": y + x}}


@dataclass
class Detection:
    """What `DataclassOutput` returns."""

    boxes: Tensor
    scores: Tensor


class DataclassOutput(Pair):
    """A dataclass of tensors."""

    def forward(self, x: Tensor) -> Detection:
        y = torch.relu(self.a(x))
        return Detection(self.b(y), torch.sigmoid(y + x))


class LossDet(Pair):
    """Losses in train mode, boxes in eval mode."""

    def forward(self, x: Tensor) -> Any:
        y = self.b(torch.relu(self.a(x)))
        return {"loss": y.square().mean()} if self.training else (y.flatten(1)[:, :4], y)


class AuxOut(Pair):
    """An auxiliary head that runs in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = conv()

    def forward(self, x: Tensor) -> Any:
        y = torch.relu(self.a(x))
        return (self.b(y), self.aux(y)) if self.training else self.b(y)


class UnreachedBranch(Pair):
    """A branch for a second input that is never given."""

    def __init__(self) -> None:
        super().__init__()
        self.lidar = conv()

    def forward(self, x: Tensor, points: Tensor | None = None) -> Tensor:
        y = torch.relu(self.a(x))
        out: Tensor = self.b(y if points is None else y + self.lidar(points))
        return out


class KeywordInputs(Pair):
    """Keyword arguments alone."""

    def forward(self, *, image: Tensor, gain: float = 0.5, mask: Tensor | None = None) -> Tensor:
        y = torch.relu(self.a(image))
        out: Tensor = self.b(y * gain if mask is None else y * mask)
        return out


class BiFpnSum(Pair):
    """BiFPN's fast normalized sum of two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.7, 0.4]))

    def forward(self, x: Tensor) -> Tensor:
        w = functional.relu(self.w)
        w = w / (w.sum() + 1e-4)
        up = functional.interpolate(self.a(functional.max_pool2d(x, 2)), scale_factor=2, mode="nearest")
        out: Tensor = self.b(w[0] * x + w[1] * up)
        return out


class SoftmaxSum(Pair):
    """A sum of branches, weighted by a softmax of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.1, 0.6, -0.2]))

    def forward(self, x: Tensor) -> Tensor:
        branches = (x, self.a(x), functional.avg_pool2d(x, 3, 1, 1))
        mixed = sum(w * y for w, y in zip(torch.softmax(self.alpha, 0), branches, strict=True))
        out: Tensor = self.b(mixed)
        return out


class ScaledBranch(Pair):
    """`x + self.w[0] * conv(x)`, and a list of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5, 0.25]))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.w[0] * self.a(x)
        return y + self.w[1] * self.b(y)


class SplitAndCat(nn.Module):
    """Chunk, a convolution of one part, and the parts together again, as in CSP blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.end = conv(), conv(C // 2, C // 2), conv(C + C // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.a(x).chunk(2, 1))
        y.append(self.b(y[-1]))
        out: Tensor = self.end(torch.cat(y, 1))
        return out


class ShuffleUnit(nn.Module):
    """ShuffleNet's unit: a split, depthwise and grouped convolutions, and a channel shuffle by view and transpose."""

    def __init__(self) -> None:
        super().__init__()
        half = C // 2
        self.depthwise, self.point = conv(half, half, groups=half), conv(half, half, 1)
        self.grouped = conv(groups=2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(x, C // 2, 1)
        y = torch.cat((left, torch.relu(self.point(self.depthwise(right)))), 1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        out: Tensor = self.grouped(y)
        return out


class PixelShuffle(nn.Module):
    """Sub-pixel upsampling and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(out=4 * C), conv()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.pixel_shuffle(self.a(x), 2)
        z = functional.pixel_unshuffle(torch.relu(self.b(y)), 2)
        return functional.interpolate(z, size=(12, 12), mode="bilinear", align_corners=False)


class Einsum(nn.Module):
    """Attention between channels by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = conv(kernel=1), conv(kernel=1), conv(kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bcn,bdn->bcd", q, k) / 8, -1)
        return torch.einsum("bcd,bdn->bcn", weights, v).reshape(x.shape) + x


class Checkpointed(Pair):
    """Both kinds of torch.utils.checkpoint."""

    def forward(self, x: Tensor) -> Tensor:
        y = checkpoint(self.a, x, use_reentrant=False) + x
        out: Tensor = checkpoint(self.b, torch.relu(y), use_reentrant=True)
        return out + y


class Straight(torch.autograd.Function):
    """A function with its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Clips."""
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Passes the gradient through."""
        return gradients[0]

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        """The node in the file."""
        return g.op(
            "Clip", x, g.op("Constant", value_t=torch.tensor(-1.0)), g.op("Constant", value_t=torch.tensor(1.0))
        )


class AutogradFunction(Pair):
    """A custom autograd function between two convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        function: Any = Straight
        out: Tensor = self.b(function.apply(self.a(x)) + x)
        return out


class TensorAttribute(Pair):
    """Tensors as plain attributes, neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = torch.full((1, C, 1, 1), 0.5), torch.rand(1, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(x)) * self.scale + self.shift)
        return out


class Hooked(Pair):
    """Forward hooks that change inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a.register_forward_hook(double)
        self.b.register_forward_pre_hook(shift)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(x))) + x
        return out


def double(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """A forward hook."""
    return output * 2


def shift(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """A hook before the forward."""
    return (args[0] + 0.5,)


class Dropped(Pair):
    """Dropout and stochastic depth, which do nothing in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(0.2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(torch.relu(self.a(x))) + x
        out: Tensor = self.b(functional.dropout(y, 0.1, self.training))
        return out
