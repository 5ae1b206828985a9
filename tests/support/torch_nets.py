"""The networks and loaders of the tests of `qdqgraph torch`, as a module of a user, and a ranking of its layers."""

import json
from pathlib import Path

NETS = """
import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(1)


class Net(nn.Module):
    '''Stripes or checks: a residual Add, a Concat, a MaxPool.'''

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.a, self.b, self.c = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.b(torch.relu(self.a(x)))
        x = self.c(torch.cat([x, functional.max_pool2d(x, 3, 1, 1)], 1))
        return self.fc(torch.relu(x).mean((2, 3)))


class Stepping(Net):
    '''Calls an operator that the tracer's exporter does not know.'''

    def forward(self, x):
        return super().forward(x * torch.heaviside(x, torch.ones(())))


def stepping():
    torch.manual_seed(0)
    return Stepping().eval()


def images(seed, count=64):
    made = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=made)
    grid = torch.arange(8)
    stripes, checks = (grid[None] + 0 * grid[:, None]) % 2, (grid[None] + grid[:, None]) % 2
    pictures = torch.stack([checks if label else stripes for label in labels])[:, None].float()
    return pictures + 0.8 * torch.randn(pictures.shape, generator=made), labels


def build():
    torch.manual_seed(0)
    net = Net().train()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(60):
        pictures, labels = images(step)
        loss = functional.cross_entropy(net(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def batches():
    return [images(seed) for seed in range(100, 104)]


def nothing():
    return []


def score(net):
    pictures, labels = images(999, 400)
    with torch.no_grad():
        return float((net(pictures).argmax(1) == labels).float().mean())


def broken():
    return {}["weights"]


def plain():
    torch.manual_seed(0)
    return Net().eval()


def bare():
    return nn.Sequential(nn.ReLU(), nn.Flatten())


def leaving():
    raise SystemExit(3)


def raising():
    yield images(1)
    raise LookupError("the second picture")


def wide():
    yield torch.rand(2, 3, 8, 8)


def stopping(net):
    raise KeyboardInterrupt


calls = []


def tired(net):
    calls.append(net)
    if len(calls) > 5:
        raise TimeoutError("enough")
    return 0.5


def undefined(net):
    return float("nan")


def text(net=None):
    return "good"
"""
COMMON = ["--model", "mynets:build", "--data", "mynets:batches", "--eval", "mynets:score"]
PLAIN = ["--model", "mynets:plain", "--data", "mynets:batches"]


def ranked(file: str) -> None:
    """Writes a ranking of two units."""
    unit = {"score": 1.0, "cost": 0.5}
    units = [{"name": "stem", "layers": ["stem"], **unit}, {"name": "fc", "layers": ["fc"], **unit, "cost": 0.1}]
    ranking = {"direction": "disable", "model": "", "quantized": 0.5, "unquantized": 1.0, "units": units}
    Path(file).write_text(json.dumps(ranking))
