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
from qdqgraph.torch import calibrate, link, load, probe, quantize, quantizers, save

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
ASSERTED = """
    def forward(self, x):
        assert x.dim() == 4 and x.shape[1] == 4, "an image"
        y = torch.relu(self.a(x))
        y = torch.nn.functional.max_pool2d(y, 3, 1, 1)
        return self.c(torch.relu(self.b(y) + y))
"""
OTHER = """
    def forward(self, x):
        y = torch.relu(self.a(x))
        y = torch.nn.functional.max_pool2d(y, 3, 1, 1)
        return self.c(torch.relu(self.b(y) * y))  # as many calls as before
"""
TWICE = """
    def forward(self, x):
        y = torch.relu(self.a(x))
        y = torch.nn.functional.max_pool2d(y + y, 3, 1, 1)
        return self.c(torch.relu(self.b(y) + y))
"""
LOOP = """
    def forward(self, x):
        parts = [torch.relu(self.a(v)) for v in (x, x * 0.5)]
        y = sum(self.b(part) + part for part in parts)
        return self.c(torch.cat([y, y], 1)[:, :4])
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


@pytest.mark.parametrize("forward", [COMMENTED, ASSERTED], ids=["comments", "an assert"])
def test_a_state_fits_code_that_differs_beside_the_calls_with_quantizers(
    forward: str, saved: tuple[nn.Module, Path]
) -> None:
    again = network(forward)
    assert load(again, saved[1]).differences == ()
    assert torch.equal(again(X), saved[0](X))


@pytest.mark.parametrize("forward", [OTHER, TWICE], ids=["another operator", "a second call"])
def test_a_state_of_other_code_is_refused_with_the_call(forward: str, saved: tuple[nn.Module, Path]) -> None:
    """Its quantizers would never run, or at another call, and the network would be silently another."""
    again = network(forward)
    with pytest.raises(
        TorchError, match=r"no add at Net.forward, call \d+ of \d+ \(code \w+\); if the code has changed"
    ):
        load(again, saved[1])
    assert not quantizers(again)
    done = load(again, saved[1], force=True)
    assert done.differences and all("its code has no add" in sentence for sentence in done.differences)
    assert not [path for path in quantizers(again) if "_functional" in path]
    assert torch.equal(quantizers(again)["b._input_quantizer"].amax, quantizers(saved[0])["b._input_quantizer"].amax)


@pytest.mark.parametrize(
    ("forward", "other", "name"),
    [
        (INNER, INNER.replace("_impl", "_forward"), "Net"),
        (HELPED, HELPED.replace("joined", "added"), "Net"),
    ],
    ids=["its method", "a function beside it"],
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


@pytest.mark.parametrize("forward", [PLAIN, DECORATED])
def test_a_state_fits_a_class_of_another_name(forward: str, tmp_path: Path) -> None:
    model = network(forward)
    quantize(model)
    link(model, X)
    calibrate(model, [X])
    save(model, tmp_path / "state.pt")
    again = network(forward, "Net2")
    load(again, tmp_path / "state.pt")
    assert torch.equal(again(X), model(X))


def test_a_state_is_refused_by_a_model_whose_quantizers_stand_at_other_calls(saved: tuple[nn.Module, Path]) -> None:
    model = network(INNER)
    quantize(model)
    link(model, X)
    with pytest.raises(TorchError, match=r"its code has no"):
        load(model, saved[1])


@pytest.mark.parametrize("forward", [PLAIN, INNER, HELPED, DECORATED, LOOP])
def test_a_state_of_another_python_version_fits(forward: str, tmp_path: Path) -> None:
    """Each minor version compiles a function to other code, so the sites that it wrote say nothing here."""
    model = network(forward)
    quantize(model)
    assert link(model, X).added
    calibrate(model, [X])
    save(model, tmp_path / "state.pt")
    content = torch.load(tmp_path / "state.pt")
    assert content["python"] == "{}.{}".format(*sys.version_info)
    for place in content["places"].values():
        name = place["site"].partition(",")[0]
        place["site"] = f"{name}, call 1 of 99 (code 00000000)"
    torch.save({**content, "python": "3.99"}, tmp_path / "state.pt")
    again = network(forward)
    load(again, tmp_path / "state.pt")
    assert torch.equal(again(X), model(X))
