"""Fake quantization without gradients: other operations than the library's, the same bits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor

from qdqgraph.torch.quantizer.toolkit import QuantDescriptor, ToolkitQuantizer, qnn

SHAPE = (4, 5, 7, 3)


def both(x: Tensor, amax: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    """What our quantizer computes, and the library's."""
    found = []
    for kind in (ToolkitQuantizer, qnn.TensorQuantizer):
        quantizer = kind(QuantDescriptor(**options))
        quantizer.register_buffer("_amax", amax.clone())
        found.append(quantizer(x))
    return found[0], found[1]


def equal_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("magnitude", [1e-7, 1e-3, 1.0, 77.7, 1e30])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("options", [{}, {"num_bits": 4}, {"num_bits": 16}, {"narrow_range": True}])
def test_every_bit_is_that_of_the_library(options: dict[str, object], axis: int | None, magnitude: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = [n if i == axis else 1 for i, n in enumerate(SHAPE)] if axis is not None else []
    amax = (torch.rand(shape, generator=generator) + 0.5) * magnitude
    x = torch.randn(SHAPE, generator=generator) * magnitude
    x.view(-1)[:5] = torch.tensor([np.inf, -np.inf, np.nan, -0.0, 0.0])
    ties = (torch.arange(-130, 130) + 0.5) * (amax.reshape(-1)[0] / 127)
    x.view(-1)[5 : 5 + len(ties)] = ties
    with torch.no_grad():
        assert equal_bits(*both(x, amax, axis=axis, **options))


@pytest.mark.parametrize("amax", [0.0, 2.0**-25, 2.0**-24])
def test_an_amax_that_the_library_treats_as_zero_is_one_here(amax: float) -> None:
    x = torch.linspace(-1, 1, 60)
    with torch.no_grad():
        assert equal_bits(*both(x, torch.tensor(amax)))
        assert equal_bits(*both(x.view(3, 20), torch.tensor([[1.0], [amax], [2.0]]), axis=0))


def test_what_the_library_refuses_is_refused() -> None:
    with torch.no_grad(), pytest.raises(ValueError, match="Negative values in amax"):
        both(torch.ones(3), torch.tensor(-1.0))
    with torch.no_grad(), pytest.raises(TypeError, match="Negative values encountered in unsigned"):
        both(-torch.ones(3), torch.tensor(1.0), unsigned=True)


def test_a_changed_amax_and_half_precision_are_respected_and_the_input_stays() -> None:
    x = torch.linspace(-1, 1, 60)
    kept = x.clone()
    quantizer = ToolkitQuantizer(QuantDescriptor())
    for amax in (1.0, 0.5):
        quantizer.set_amax(torch.tensor(amax))
        with torch.no_grad():
            assert equal_bits(quantizer(x), both(x, torch.tensor(amax))[1])
    assert torch.equal(x, kept)
    with torch.no_grad():
        assert equal_bits(*both(x.half(), torch.tensor(0.7)))
        assert equal_bits(*both(x.double(), torch.tensor(0.7)))


def test_gradients_are_the_librarys() -> None:
    gradients = []
    for kind in (ToolkitQuantizer, qnn.TensorQuantizer):
        quantizer = kind(QuantDescriptor())
        quantizer.register_buffer("_amax", torch.tensor(0.5))
        x = torch.linspace(-1, 1, 60, requires_grad=True)
        (quantizer(x) * torch.arange(60)).sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    assert torch.equal(gradients[0], gradients[1])
