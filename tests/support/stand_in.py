"""A small detector in which an engineer's script ties fourteen pairs of quantizers by hand: a backbone of CSP stages with
residual blocks and channel attention, and two necks. Module paths, concats, products and adds are those of the script."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from qdqgraph.torch import QuantAdd
from qdqgraph.torch.quantizer.quantizer import qnn

WIDTH = 4
BLOCKS = (1, 2, 2, 1)
"""Residual blocks by stage."""
IMAGE = (1, 3, 32, 32)


class Activated(nn.Module):
    """A convolution with its activation."""

    def __init__(self, before: int, after: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, stride, size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x))


class Product(nn.Module):
    """The script's product with one quantizer before it, or a plain one."""

    def __init__(self, quantized: bool) -> None:
        super().__init__()
        self._input_quantizer = qnn.TensorQuantizer() if quantized else nn.Identity()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self._input_quantizer(x) * y
        return out


class PlainAdd(nn.Module):
    """An add without quantizers."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Residual(nn.Module):
    """A residual block, whose add is a module as in the script, or a plain `+` inside one."""

    def __init__(self, quantized: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = Activated(WIDTH, WIDTH, 3), Activated(WIDTH, WIDTH, 3)
        self.addop = QuantAdd("both") if quantized else PlainAdd()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.addop(self.conv2(self.conv1(x)), x)
        return out


class CspLayer(nn.Module):
    """Two branches, one of them residual blocks, that meet in a concat, with or without channel attention after it."""

    def __init__(self, before: int, after: int, blocks: int, quantized: bool, attention: bool) -> None:
        super().__init__()
        self.main_conv, self.short_conv = Activated(before, WIDTH), Activated(before, WIDTH)
        self.blocks = nn.Sequential(*(Residual(quantized) for _ in range(blocks)))
        self.fc = nn.Conv2d(2 * WIDTH, 2 * WIDTH, 1) if attention else None
        self.oneop = Product(quantized) if attention else None
        self.final_conv = Activated(2 * WIDTH, after)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        if self.fc is not None and self.oneop is not None:
            gate = functional.hardsigmoid(self.fc(functional.adaptive_avg_pool2d(joined, 1)))
            joined = self.oneop(joined, gate)
        out: Tensor = self.final_conv(joined)
        return out


class Backbone(nn.Module):
    """A stem with a MaxPool and four stages; the last three are returned."""

    def __init__(self, quantized: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(Activated(3, WIDTH, 3), nn.MaxPool2d(2))
        for number, blocks in enumerate(BLOCKS, start=1):
            layer = CspLayer(WIDTH, WIDTH, blocks, quantized, attention=True)
            self.add_module(f"stage{number}", nn.Sequential(Activated(WIDTH, WIDTH, 3, 2), layer))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = [self.stem(x)]
        for number in range(1, len(BLOCKS) + 1):
            found.append(self.get_submodule(f"stage{number}")(found[-1]))
        return found[-3:]


class Neck(nn.Module):
    """A path down and a path up between three scales; tensors meet in concats."""

    def __init__(self, quantized: bool) -> None:
        super().__init__()

        def two(kind: type[nn.Module] = CspLayer) -> nn.ModuleList:
            layers = (CspLayer(2 * WIDTH, WIDTH, 0, quantized, attention=False) for _ in range(2))
            return nn.ModuleList(layers)

        self.top_down_layers, self.bottom_up_layers = two(), two()
        self.downsamples = nn.ModuleList(Activated(WIDTH, WIDTH, 3, 2) for _ in range(2))

    def forward(self, scales: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = scales
        middle = self.top_down_layers[0](torch.cat([functional.interpolate(coarse, scale_factor=2.0), middle], 1))
        fine = self.top_down_layers[1](torch.cat([functional.interpolate(middle, scale_factor=2.0), fine], 1))
        middle = self.bottom_up_layers[0](torch.cat([self.downsamples[0](fine), middle], 1))
        coarse = self.bottom_up_layers[1](torch.cat([self.downsamples[1](middle), coarse], 1))
        return [fine, middle, coarse]


class Camera(nn.Module):
    """The backbone, both necks and a head for each scale."""

    def __init__(self, quantized: bool) -> None:
        super().__init__()
        self.img_backbone = Backbone(quantized)
        self.img_neck, self.det2d_neck = Neck(quantized), Neck(quantized)
        self.heads = nn.ModuleList(nn.Conv2d(WIDTH, 6, 1) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.det2d_neck(self.img_neck(self.img_backbone(x)))
        return [head(x) for head, x in zip(self.heads, found, strict=True)]


class StandIn(nn.Module):
    """The script's network: everything is inside `model`.

    Args:
        quantized: whether `addop` and `oneop` contain the script's quantizers; else they are plain operators, and `link`
            adds quantizers where the rules ask for them.
    """

    def __init__(self, quantized: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = Camera(quantized)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # wide enough that no ReLU is zero everywhere
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        out: list[Tensor] = self.model(x)
        return out
