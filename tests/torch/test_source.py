"""Functional calls keep their names when comments and formatting change, and lose them when the code does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import nn

from qdqgraph.errors import TorchError
from qdqgraph.torch import calibrate, link, load, probe, quantize, save

X = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
PLAIN = """
    def forward(self, x):
        y = torch.relu(self.a(x))
        y = torch.nn.functional.max_pool2d(y, 3, 1, 1)
        return self.c(torch.relu(self.b(y) + y))
"""
COMMENTED = '''
    def forward(self, x):
        """The same, written otherwise."""
        # the skip
        y = torch.relu(
            self.a(x),
        )
        y = torch.nn.functional.max_pool2d(
            y, 3, 1, 1
        )

        return self.c(
            torch.relu(
                self.b(y)
                + y
            )
        )
'''
OTHER = """
    def forward(self, x):
        y = torch.tanh(torch.relu(self.a(x)))  # as many calls as before
        return self.c(torch.relu(self.b(y) + y))
"""


INNER = """
    def forward(self, x):
        return self._impl(x)

    def _impl(self, x):
        y = torch.relu(self.a(x))
        return self.c(torch.relu(self.b(y) + y))
"""
HELPED = """
    def forward(self, x):
        y = torch.relu(self.a(x))
        return self.c(torch.relu(joined(self.b(y), y)))


def joined(x, y):
    return x + y
"""
DECORATED = """
    def traced(function):
        def run(*args):
            return function(*args)
        return run

    @traced
    def forward(self, x):
        y = torch.relu(self.a(x))
        return self.c(torch.relu(self.b(y) + y))
"""


def network(forward: str, name: str = "Net") -> nn.Module:
    """A residual network whose class is written with this forward."""
    source = f"class {name}(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    source += "        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))\n"
    space: dict[str, Any] = {"nn": nn, "torch": torch, "__name__": "nets"}
    exec(compile(source + forward, "nets.py", "exec"), space)
    torch.manual_seed(0)
    made: nn.Module = space[name]().eval()
    return made


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A calibrated network with a quantizer on the skip of its add, and its state."""
    model = network(PLAIN)
    quantize(model)
    assert "_functional.add_0._input1_quantizer" in link(model, X).added
    assert all("call" in str(p) and "instruction" not in str(p) for p in probe(model, X).places.values())
    calibrate(model, [X])
    save(model, tmp_path / "state.pt")
    return model, tmp_path / "state.pt"


def test_a_state_fits_code_that_differs_in_comments_and_formatting(saved: tuple[nn.Module, Path]) -> None:
    again = network(COMMENTED)
    load(again, saved[1])
    assert torch.equal(again(X), saved[0](X))


def test_a_state_of_other_code_is_refused_with_the_call(saved: tuple[nn.Module, Path]) -> None:
    """Its quantizers would never run, and the network would be silently another."""
    with pytest.raises(
        TorchError, match=r"no add at Net.forward, call \d+ of \d+ \(code \w+\); if the code has changed"
    ):
        load(network(OTHER), saved[1])


@pytest.mark.parametrize(
    ("forward", "other", "name"),
    [
        (PLAIN, PLAIN, "Net2"),
        (INNER, INNER.replace("_impl", "_forward"), "Net"),
        (HELPED, HELPED.replace("joined", "added"), "Net"),
        (DECORATED, DECORATED, "Net2"),
    ],
    ids=["the class", "its method", "a function beside it", "a class with a decorated forward"],
)
def test_a_state_is_refused_where_what_makes_the_call_has_another_name(
    forward: str, other: str, name: str, tmp_path: Path
) -> None:
    model = network(forward)
    quantize(model)
    assert [p for p in link(model, X).added if "_functional.add_0" in p]
    calibrate(model, [X])
    save(model, tmp_path / "state.pt")
    again = network(forward)
    load(again, tmp_path / "state.pt")
    assert torch.equal(again(X), model(X))
    with pytest.raises(TorchError, match=r"its code has no add at"):
        load(network(other, name), tmp_path / "state.pt")


def test_a_state_is_refused_by_a_model_whose_quantizers_stand_at_other_calls(saved: tuple[nn.Module, Path]) -> None:
    model = network(INNER)
    quantize(model)
    link(model, X)
    with pytest.raises(TorchError, match=r"its code has no"):
        load(model, saved[1])


def test_a_state_with_calls_belongs_to_the_python_version_that_wrote_it(
    saved: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    """Each minor version compiles a function to other code."""
    own = "{}.{}".format(*sys.version_info)
    content = torch.load(saved[1])
    assert content["python"] == own
    torch.save({**content, "python": "3.99"}, saved[1])
    with pytest.raises(TorchError, match=rf"Python 3\.99 wrote this state, and this is Python {own}"):
        load(network(PLAIN), saved[1])
    model = network(PLAIN)
    quantize(model)
    calibrate(model, [X])
    save(model, tmp_path / "plain.pt")
    torch.save({**torch.load(tmp_path / "plain.pt"), "python": "3.99"}, tmp_path / "plain.pt")
    again = network(PLAIN)
    load(again, tmp_path / "plain.pt")
    assert torch.equal(again(X), model(X))
