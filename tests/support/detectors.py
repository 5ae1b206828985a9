"""Small detectors: heads whose outputs in train mode differ from those in eval mode, as in real detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Raw:
    """What a head gives in train mode."""

    boxes: Tensor
    scores: list[Tensor]
    stride: int = 2


class Backbone(nn.Module):
    """Two scales: convolutions, BatchNorms, a residual add, a Concat."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.down = nn.Conv2d(16, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = torch.relu(self.norm(self.stem(x)))
        y = self.b(torch.relu(self.a(x))) + x
        return [y, torch.relu(self.down(torch.cat([x, y], 1)))]


class Detector(nn.Module):
    """Train mode: a dataclass of raw maps. Eval mode: decoded boxes of all scales in one tensor, and the raw maps."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.boxes = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(2))
        self.scores = nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Any:
        maps = self.backbone(x)
        boxes = torch.cat([head(m).flatten(2) for head, m in zip(self.boxes, maps, strict=True)], 2)
        scores = [head(m) for head, m in zip(self.scores, maps, strict=True)]
        if self.training:
            return {"raw": Raw(boxes, scores)}
        best = torch.cat([s.flatten(2) for s in scores], 2).sigmoid()
        return torch.cat([boxes.exp(), best], 1), (boxes, *scores)


class LossDetector(Detector):
    """Train mode: a dictionary of losses, for which it needs targets. Eval mode: as `Detector`."""

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        if not self.training:
            return super().forward(x)
        if targets is None:
            raise ValueError("targets are needed in train mode")
        raw = super().forward(x)["raw"]
        return {"box": (raw.boxes - targets[:, :, None]).square().mean(), "score": raw.scores[0].sigmoid().mean()}


class Auxiliary(nn.Module):
    """Train mode: the output, and that of an auxiliary head that does not exist in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head, self.aux = Backbone(), nn.Conv2d(8, 2, 1), nn.Conv2d(8, 2, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        first, second = self.backbone(x)
        output = self.head(self.drop(second))
        return (output, self.aux(first)) if self.training else output


def pictures(count: int = 4) -> list[dict[str, Tensor]]:
    """Batches of [2, 3, 8, 8] with targets, [2, 4]."""
    made = torch.Generator().manual_seed(3)
    return [
        {"image": torch.rand(2, 3, 8, 8, generator=made), "boxes": torch.rand(2, 4, generator=made)}
        for _ in range(count)
    ]
