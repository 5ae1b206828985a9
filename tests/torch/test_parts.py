"""Calls of torch that an exporter writes as several operators: what is inside of them is quantized as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import qdqgraph
from qdqgraph.torch import calibrate, export, link, quantize, quantizers
from qdqgraph.torch.calls.parts import parts_of

SEED = torch.Generator().manual_seed(3)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=SEED)


Q, K, V, GROUPED = random(2, 4, 5, 8), random(2, 4, 6, 8), random(2, 4, 6, 3), random(2, 2, 6, 8)
MASK = torch.ones(5, 6, dtype=torch.bool).tril()
PICTURE = random(2, 6, 4, 4)
CELL = nn.GRUCell(4, 3)
CALLS: dict[str, Callable[[], Tensor]] = {
    "attention": lambda: functional.scaled_dot_product_attention(Q, K, V),
    "attention, causal": lambda: functional.scaled_dot_product_attention(Q, K, V, is_causal=True, scale=0.3),
    "attention, with a mask": lambda: functional.scaled_dot_product_attention(Q, K, V, MASK),
    "attention, with a bias": lambda: functional.scaled_dot_product_attention(Q, K, V, attn_mask=random(5, 6)),
    "attention, grouped": lambda: functional.scaled_dot_product_attention(Q, GROUPED, GROUPED, enable_gqa=True),
    "glu": lambda: functional.glu(PICTURE, 1),
    "roll": lambda: torch.roll(PICTURE, (1, -2), (2, 3)),
    "roll, one axis": lambda: PICTURE.roll(1, 2),
    "roll, flattened": lambda: torch.roll(PICTURE, 3),
    "var": lambda: PICTURE.var((2, 3)),
    "var, of all": lambda: torch.var(PICTURE, False),
    "std": lambda: torch.std(PICTURE, -1, keepdim=True, correction=0),
    "baddbmm": lambda: torch.baddbmm(random(2, 5, 6), Q[:, 0], K[:, 0].mT, beta=0.5, alpha=2),
    "baddbmm, without": lambda: torch.baddbmm(torch.full((2, 5, 6), torch.nan), Q[:, 0], K[:, 0].mT, beta=0),
    "gru cell": lambda: CELL(random(2, 4), random(2, 3)),
}


class Apart(TorchFunctionMode):
    """Makes calls of their parts."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        parts = parts_of(function, args, kwargs or {})
        if parts is None:
            return function(*args, **(kwargs or {}))
        self.made.append(function.__name__)
        return parts()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_and_its_parts_compute_the_same(name: str) -> None:
    SEED.manual_seed(4)
    expected = CALLS[name]()
    SEED.manual_seed(4)
    with Apart() as mode:
        found = CALLS[name]()
    torch.testing.assert_close(found, expected)
    assert bool(mode.made) == (name not in ("roll, one axis", "roll, flattened"))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(functional.glu(self.a(x), 1))
        return out


class Shifted(nn.Module):
    """Windows that are shifted, cut, and put back."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(16, 16), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.roll(self.a(x), (1, 1), (2, 3)).unfold(2, 4, 4).unfold(3, 4, 4)
        z = self.b(y.reshape(2, 4, 4, 16)).reshape(2, 4, 8, 8)
        out: Tensor = self.c(torch.roll(z, (-1, -1), (2, 3)))
        return out


INSIDE: dict[str, tuple[type[nn.Module], tuple[int, ...], list[str]]] = {
    "attention": (Attention, (2, 5, 16), ["matmul_0.0", "matmul_0.1", "matmul_1.0", "matmul_1.1", "unbind_0.0"]),
    "glu": (Gated, (2, 4, 8, 8), ["mul_0.0", "mul_0.1"]),
    "roll and unfold": (Shifted, (2, 4, 8, 8), [*(f"roll_{i}.0" for i in range(4)), "unfold_0.0", "unfold_1.0"]),
}


@pytest.mark.parametrize("name", INSIDE)
def test_quantizers_stand_inside_of_a_call_and_check_is_silent(name: str, tmp_path: Path) -> None:
    kind, shape, expected = INSIDE[name]
    model, x = kind().eval(), random(*shape)
    quantize(model)
    done = link(model, x)
    short = [p.removeprefix("_functional.").replace("._input", ".").removesuffix("_quantizer") for p in done.added]
    assert sorted(short) == expected and not done.unmapped and not done.left
    assert not calibrate(model, [x]).unseen
    for quantizer in quantizers(model).values():
        quantizer.set_amax(127 * torch.exp2(torch.ceil(torch.log2(quantizer.amax / 127))))
    assert not qdqgraph.check(export(model, x, tmp_path / "m.onnx"), qdqgraph.rules())
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # in float, as torch computes it
    session = ort.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"images": x.numpy()})[0], model(x).numpy(), atol=1e-5)
