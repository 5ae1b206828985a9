# ruff: noqa: D102  # the class says what its forward does
"""Modules whose layers are odd: their weights, types and kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import weight_norm as old_weight_norm

from .odd_forwards import C, Pair, conv


class FunctionalWeights(nn.Module):
    """Convolution and Linear as functions, with parameters of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(C, C, 3, 3) * 0.2)
        self.matrix = nn.Parameter(torch.randn(4, C) * 0.3)
        self.a = conv()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.conv2d(torch.relu(self.a(x)), self.kernel, padding=1)
        return functional.linear(y.mean((2, 3)), self.matrix)


class GeneratedWeights(nn.Module):
    """A kernel that a network computes from the input, as in dynamic convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.generate = conv(), nn.Linear(C, C * C)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.generate(x.mean((0, 2, 3))).reshape(C, C, 1, 1)
        return functional.conv2d(torch.relu(self.a(x)), kernel) + x


class Normed(nn.Module):
    """Weight norm as hook and as parametrization, spectral norm, and an own parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.a: nn.Module = old_weight_norm(conv())
        self.b, self.c, self.d = parametrizations.weight_norm(conv()), parametrizations.spectral_norm(conv()), conv()
        parametrize.register_parametrization(self.d, "weight", Symmetric())

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.a, self.b, self.c, self.d):
            x = torch.relu(layer(x))
        return x


class Symmetric(nn.Module):
    """A parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        """A weight and its mirror image."""
        return (weight + weight.flip(-1)) / 2


class StandardizedConv(nn.Conv2d):
    """A subclass that standardizes its weight in the forward."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = w / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), w, self.bias)


class Subclassed(Pair):
    """Subclasses of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = StandardizedConv(C, C, 3), StandardizedConv(C, C, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(x))) + x
        return out


class Transposed(nn.Module):
    """Transposed convolutions, with groups and output padding, in a U-Net's skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(C, C, 3, 2, 1)
        self.up = nn.ConvTranspose2d(C, C, 3, 2, 1, output_padding=1, groups=2)
        self.end = conv(2 * C)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.end(torch.cat((x, torch.relu(self.up(torch.relu(self.down(x))))), 1))
        return out


class OneAndThreeDimensions(nn.Module):
    """Conv1d and Conv3d."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(C, C, 3, padding=1), nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x.flatten(2))).view(x.shape)
        out: Tensor = self.b(y.unsqueeze(1))
        return out


class Recurrent(nn.Module):
    """Bidirectional LSTM, GRU and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(C, C, batch_first=True, bidirectional=True)
        self.gru, self.end = nn.GRU(2 * C, C, batch_first=True), nn.Linear(C, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        y, _ = self.gru(y)
        out: Tensor = self.end(y[:, -1])
        return out


class Attention(nn.Module):
    """torch's own MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.end = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attend(x, x, x, need_weights=False)
        out: Tensor = self.end(y + x)
        return out


class ScaledDotProduct(nn.Module):
    """scaled_dot_product_attention with a fused projection."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm, self.end = nn.Linear(16, 48), nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.end(y.transpose(1, 2).reshape(x.shape)) + x
        return out


class TransformerLayer(nn.Module):
    """torch's own encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class TiedWeights(nn.Module):
    """The weight of an embedding is that of the head, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle, self.head = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        out: Tensor = self.head(functional.gelu(self.middle(y)) + y)
        return out


class CompiledPart(Pair):
    """A submodule that torch.compile has wrapped."""

    def __init__(self) -> None:
        super().__init__()
        compiled: Any = torch.compile(self.b, backend="eager")
        self.b = compiled

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(x)))
        return out


class ScriptedPart(Pair):
    """A submodule that torch.jit.script has compiled."""

    def __init__(self) -> None:
        super().__init__()
        scripted: Any = torch.jit.script(nn.Sequential(conv(), nn.ReLU()))
        self.b = scripted

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(x)))
        return out


class Wrapper(nn.Module):
    """Wraps a module as DataParallel does, and passes attributes on to it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class ConvNorm(nn.Module):
    """Convolution, BatchNorm and ReLU with a skip; trained or not, frozen or not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = conv(bias=False), nn.BatchNorm2d(C), conv()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.norm(self.a(x)))) + x
        return out


class BatchStatistics(ConvNorm):
    """A BatchNorm that normalizes with the statistics of the batch, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(C, track_running_stats=False)


class ZeroInitialized(ConvNorm):
    """A branch whose last weights are zero, and a gain of zero, before training."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.b.weight)
        self.gain = nn.Parameter(torch.zeros(1, C, 1, 1))
        self.end = conv()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.end(super().forward(x) + self.gain * x)
        return out


class OneChannel(nn.Module):
    """Layers with a single channel, a squeeze-and-excitation gate, and a tensor of one element."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.gate = conv(out=1), conv(1, C), conv(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        out: Tensor = self.b(y) + x
        return out


class RepBranches(nn.Module):
    """RepVGG's three branches before they are merged."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.point, self.norm = conv(), conv(kernel=1), nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.wide(x) + self.point(x) + self.norm(x))


class OddPools(nn.Module):
    """Max, average and adaptive pools, with ceil mode, an LpPool and a global average without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.max = conv(), nn.MaxPool2d(2, 2, ceil_mode=True)
        self.average, self.lp, self.end = nn.AdaptiveAvgPool2d(2), nn.LPPool2d(2, 2), nn.Linear(C, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        z = self.average(self.max(y)) + self.average(self.lp(y))
        out: Tensor = self.end(z.mean(dim=(-2, -1)))
        return out


class UnevenPool(nn.Module):
    """An adaptive pool whose output size does not divide its input's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.pool, self.b = conv(), nn.AdaptiveAvgPool2d(3), conv()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.pool(torch.relu(self.a(x))))
        return out
