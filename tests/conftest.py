"""Fixtures of all tests."""

import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from qdqgraph.calibration import inputs
from qdqgraph.verify import comparison

pytest.register_assert_rewrite("tests.support")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The networks are small: more threads of torch gain nothing, and cost much beside other work."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def sqnr() -> Callable[[onnx.ModelProto, onnx.ModelProto], float]:
    """The smallest SQNR of any output on seeded noise."""

    def measure(a: onnx.ModelProto, b: onnx.ModelProto) -> float:
        found = comparison.compare(a, b, inputs.noise(a, 2), Path())
        return min(agreement.sqnr for agreement in found.values())

    return measure
