"""Odd modules, by what is odd: a few lines of torch each, as people write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qdqgraph import torch as side

from . import flow, odd_forwards, odd_layers
from .odd_forwards import C

COLUMNS = (
    *("module", "outcome", "weighted layers in INT8", "groups", "added", "file against model, dB"),
    "reported by a step",
)
SHAPES = {
    "Recurrent": (2, 6, C),
    "Attention": (2, 6, 16),
    "ScaledDotProduct": (2, 6, 16),
    "TransformerLayer": (2, 6, 16),
}
"""Shapes of inputs that are not images."""


@dataclass(frozen=True)
class Odd:
    """One module.

    Attributes:
        name: of its class, and what was done to it; what: what is odd.
        build: the module in eval mode; example: an input, by seed.
        opset: of the file; None: the default.
    """

    name: str
    what: str
    build: Callable[[], nn.Module]
    example: Callable[[int], Any]
    opset: int | None = None
    config: side.Config | None = None


def image(seed: int, *shape: int) -> Tensor:
    """A random input, [2, 8, 8, 8] by default, in -1 to 1."""
    return torch.rand(shape or (2, C, 8, 8), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def tokens(seed: int) -> Tensor:
    """Indices of words, [2, 6]."""
    return torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(seed))


def every() -> Iterator[Odd]:
    """All modules."""
    for file in (odd_forwards, odd_layers):
        for kind in list(vars(file).values()):
            own = isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == file.__name__
            if own and kind not in NOT_ALONE:
                what = " ".join((kind.__doc__ or "").split())
                yield Odd(kind.__name__, what, kind, example_of(kind.__name__))
    yield Odd(
        "Wrapper", "A wrapper that passes attributes on.", lambda: odd_layers.Wrapper(odd_layers.ConvNorm()), image
    )
    yield Odd("ConvNorm, bfloat16", "Weights of half precision.", lambda: odd_layers.ConvNorm().bfloat16(), bfloat, 19)
    yield Odd("ConvNorm, float16", "Weights of half precision.", lambda: odd_layers.ConvNorm().half(), half, 19)
    yield Odd("ConvNorm, frozen", "Parameters that are not trained.", frozen, image)
    yield Odd("ConvNorm, train mode", "The BatchNorm is in train mode.", training, image)
    ignore = side.Config(ignore="b")
    yield Odd(
        "InPlace, one layer ignored", "The configuration ignores a layer.", odd_forwards.InPlace, image, None, ignore
    )
    yield Odd("DataParallel", "A wrapper for several devices.", lambda: nn.DataParallel(odd_forwards.InPlace()), image)


NOT_ALONE = (odd_forwards.Pair, odd_layers.Symmetric, odd_layers.StandardizedConv, odd_layers.Wrapper)
"""Parts of other modules."""


def example_of(name: str) -> Callable[[int], Any]:
    """The example of a class, by its name."""
    if name == "TiedWeights":
        return tokens
    if name == "KeywordInputs":
        return lambda seed: {"image": image(seed), "mask": image(seed + 50)}
    return lambda seed: image(seed, *SHAPES.get(name, ()))


def bfloat(seed: int) -> Tensor:
    """An input in bfloat16."""
    return image(seed).bfloat16()


def half(seed: int) -> Tensor:
    """An input in float16."""
    return image(seed).half()


def frozen() -> nn.Module:
    """Only the last layer is trained."""
    model = odd_layers.ConvNorm()
    for layer in (model.a, model.norm):
        layer.requires_grad_(False)
    return model


def training() -> nn.Module:
    """A model in train mode."""
    return odd_layers.ConvNorm().train()


def outcome(odd: Odd, folder: Any) -> flow.Outcome:
    """What the flow does to one module."""

    def build() -> nn.Module:
        torch.manual_seed(0)
        model = odd.build()
        return model if "train mode" in odd.name else model.eval()

    batches = [odd.example(seed) for seed in range(3)]
    file = folder / f"{odd.name.replace(', ', '-').replace(' ', '-')}.onnx"
    return flow.Flow(build, batches, file, opset=odd.opset, config=odd.config).run()


def row(odd: Odd, folder: Any) -> str:
    """One line of the table."""
    done = outcome(odd, folder)
    cells = [f"{odd.name}: {odd.what}", done.sentence, f"{done.int8} of {done.weighted}", str(done.groups)]
    cells += [str(done.added), f"{done.sqnr:.0f}", "; ".join(done.said) or "none"]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
