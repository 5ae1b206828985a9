"""ResNet-18, a YOLOv5s-shaped detector and a small classifier with the same parts, in plain PyTorch.

Images are float32 tensors [batch, channels, height, width] with values from 0 to 1. Shapes follow "Deep Residual
Learning for Image Recognition" (He et al. 2015, table 1, 18 layers) and the published YOLOv5 6.0 layout. Weights are
random: the two samples reproduce the structure and the scales of real networks, not their accuracy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Add(nn.Module):
    """Sum of two tensors of equal shape; a module, so that quantization can find and replace it."""

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        """[n, c, h, w] twice → [n, c, h, w]; `skip` is the operand that bypasses the convolutions of the block."""
        return branch + skip


class Unit(nn.Module):
    """Convolution, BatchNorm, activation."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        act: type[nn.Module] = nn.SiLU,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv: nn.Module = nn.Conv2d(cin, cout, kernel, stride, padding, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(cout)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """[n, cin, h, w] → [n, cout, h / stride, w / stride]."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out

    def fold(self) -> None:
        """Folds the BatchNorm into the convolution; TensorRT could not fold it into a quantized weight."""
        assert isinstance(self.conv, nn.Conv2d) and isinstance(self.norm, nn.BatchNorm2d)
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class BasicBlock(nn.Module):
    """The residual block of ResNet-18: two 3x3 convolutions, Add, ReLU."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Unit(cin, cout, 3, stride, nn.ReLU)
        self.conv2 = Unit(cout, cout, 3, act=nn.Identity)
        same = stride == 1 and cin == cout
        self.shortcut = nn.Identity() if same else Unit(cin, cout, 1, stride, nn.Identity)
        self.add = Add()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, cin, h, w] → [n, cout, h / stride, w / stride]."""
        out: Tensor = self.act(self.add(self.conv2(self.conv1(x)), self.shortcut(x)))
        return out


class ResNet18(nn.Module):
    """11.7 million weights; height and width are multiples of 32."""

    outputs = ("logits",)

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = Unit(3, 64, 7, 2, nn.ReLU)
        self.pool = nn.MaxPool2d(3, 2, 1)
        widths = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        pairs = [nn.Sequential(BasicBlock(a, b, stride), BasicBlock(b, b, 1)) for a, b, stride in widths]
        self.stages = nn.Sequential(*pairs)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, h, w] → logits [n, classes]."""
        out: Tensor = self.fc(self.mean(self.stages(self.pool(self.stem(x)))).flatten(1))
        return out


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution, with a residual Add in the backbone and without one in the neck."""

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__()
        self.cv1 = Unit(width, width, 1)
        self.cv2 = Unit(width, width, 3)
        self.add = Add() if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, width, h, w] → the same shape."""
        out: Tensor = self.cv2(self.cv1(x))
        return out if self.add is None else self.add(out, x)


class C3(nn.Module):
    """Cross-stage block: bottlenecks on one half of the channels, a 1x1 convolution on the other, Concat."""

    def __init__(self, cin: int, cout: int, depth: int = 1, residual: bool = True) -> None:
        super().__init__()
        half = cout // 2
        self.cv1 = Unit(cin, half, 1)
        self.cv2 = Unit(cin, half, 1)
        self.m = nn.Sequential(*(Bottleneck(half, residual) for _ in range(depth)))
        self.cv3 = Unit(2 * half, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, cin, h, w] → [n, cout, h, w]."""
        out: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
        return out


class SPPF(nn.Module):
    """Three chained 5x5 MaxPools; one Concat of their input and all three outputs."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        half = cin // 2
        self.cv1 = Unit(cin, half, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.cv2 = Unit(4 * half, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, cin, h, w] → [n, cout, h, w]."""
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        out: Tensor = self.cv2(torch.cat(parts, 1))
        return out


def double(x: Tensor) -> Tensor:
    """[n, c, h, w] → [n, c, 2h, 2w], each value repeated (ONNX: Resize nearest)."""
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


class YoloV5s(nn.Module):
    """Backbone, SPPF, neck up (FPN) and down (PAN), three heads of 3 anchors x (5 + classes) channels.

    7.2 million weights with 80 classes; height and width are multiples of 32. The heads are raw, as is common for
    TensorRT: boxes are decoded outside the network.
    """

    outputs = ("stride8", "stride16", "stride32")

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.stem = nn.Sequential(Unit(3, 32, 6, 2, padding=2), Unit(32, 64, 3, 2), C3(64, 64))
        self.stage8 = nn.Sequential(Unit(64, 128, 3, 2), C3(128, 128, 2))
        self.stage16 = nn.Sequential(Unit(128, 256, 3, 2), C3(256, 256, 3))
        self.stage32 = nn.Sequential(Unit(256, 512, 3, 2), C3(512, 512), SPPF(512, 512))
        self.lateral32 = Unit(512, 256, 1)
        self.up16 = C3(512, 256, residual=False)
        self.lateral16 = Unit(256, 128, 1)
        self.up8 = C3(256, 128, residual=False)
        self.down16 = Unit(128, 128, 3, 2)
        self.out16 = C3(256, 256, residual=False)
        self.down32 = Unit(256, 256, 3, 2)
        self.out32 = C3(512, 512, residual=False)
        self.heads = nn.ModuleList(nn.Conv2d(width, 3 * (5 + classes), 1) for width in (128, 256, 512))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[n, 3, h, w] → three maps [n, 3 * (5 + classes), h / s, w / s], s = 8, 16, 32."""
        p8 = self.stage8(self.stem(x))
        p16 = self.stage16(p8)
        top = self.lateral32(self.stage32(p16))
        mid = self.lateral16(self.up16(torch.cat((double(top), p16), 1)))
        n8 = self.up8(torch.cat((double(mid), p8), 1))
        n16 = self.out16(torch.cat((self.down16(n8), mid), 1))
        n32 = self.out32(torch.cat((self.down32(n16), top), 1))
        return tuple(head(n) for head, n in zip(self.heads, (n8, n16, n32), strict=True))


class Digits(nn.Module):
    """The demo's classifier: the structures of a detector, small enough to train in a minute on two cores."""

    outputs = ("logits",)

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(Unit(1, 16, 3, 2), C3(16, 16))
        self.stage4 = nn.Sequential(Unit(16, 32, 3, 2), C3(32, 32, 2))
        self.stage8 = nn.Sequential(Unit(32, 64, 3, 2), C3(64, 64), SPPF(64, 64), Unit(64, 32, 1))
        self.neck = C3(64, 64, residual=False)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, h, w] → logits [n, classes]; h and w in multiples of 8."""
        p4 = self.stage4(self.stem(x))
        neck = self.neck(torch.cat((double(self.stage8(p4)), p4), 1))
        out: Tensor = self.fc(self.mean(neck).flatten(1))
        return out


SAMPLES: dict[str, type[ResNet18] | type[YoloV5s]] = {"resnet18": ResNet18, "yolov5s": YoloV5s}


def build(name: str, size: int) -> nn.Module:
    """A sample by name, in eval mode, with weights from seed 0 and BatchNorm statistics from `images` of this size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SAMPLES[name]()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                # Trained layers and channels have different ranges; all ones would make all scales equal. The shift
                # keeps activations away from zero, where a deep random network amplifies every rounding.
                level = 2 ** float(torch.empty(1).uniform_(-1, 1))
                nn.init.uniform_(module.weight, 0.5 * level, 1.5 * level)
                nn.init.uniform_(module.bias, 0.5 * level, 1.5 * level)
                module.momentum = None  # plain mean over the batches
    network.train()
    with torch.no_grad():
        for seed in range(4):
            network(images(4, size, seed))
    return network.eval()


def fold_norms(network: nn.Module) -> None:
    """Folds every BatchNorm into its convolution, in place; the network must be in eval mode and not folded."""
    for module in network.modules():
        if isinstance(module, Unit):
            module.fold()


def images(count: int, size: int, seed: int) -> Tensor:
    """Synthetic images [count, 3, size, size], 0 to 1: noise dominated by low frequencies, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, size, size)
    for grains in (2, 4, 8, 16, 32):
        noise = torch.randn(count, 3, grains, grains, generator=generator)
        total += nn.functional.interpolate(noise, (size, size), mode="bilinear") * (4 / grains)
    return torch.sigmoid(total)
