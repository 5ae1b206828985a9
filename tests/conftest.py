"""Fixtures of all tests, and how many random examples the properties are tried on.

Profiles of hypothesis: `ci`, the default, tries the same 150 examples in every run, so that a change is judged by what it
changed. `nightly` tries 1,000 others each time, and prints how to reproduce what it finds:

    python -m pytest --hypothesis-profile=nightly
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings

from qdqgraph.calibration.noise import noise
from qdqgraph.verify import comparison

pytest.register_assert_rewrite("tests.support")

settings.register_profile(
    "ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", settings.get_profile("ci"), max_examples=1000, derandomize=False, print_blob=True)
settings.load_profile("ci")

# The networks are small: more threads of torch gain nothing, and cost much beside other work. Read when torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def sqnr() -> Callable[[onnx.ModelProto, onnx.ModelProto], float]:
    """The smallest SQNR of any output on seeded noise."""

    def measure(a: onnx.ModelProto, b: onnx.ModelProto) -> float:
        found = comparison.compare(a, b, noise(a, 2), Path())
        return min(agreement.sqnr for agreement in found.values())

    return measure


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the figures that tests record, also of those that pass."""
    from tests.support.figures import figures  # after the rewriting of its asserts is registered

    reports = [r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)]
    for title, lines in figures(pair for r in reports for pair in r.user_properties).items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)


STATES: dict[str, Mapping[str, Any]] = {}
"""For each test module the state that its RANDOM has once the module is imported."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Starts every random generator again: workers change the order of tests, which must not change a network."""
    module = getattr(item, "module", None)
    generator = getattr(module, "RANDOM", None)
    if module is not None and isinstance(generator, np.random.Generator):
        generator.bit_generator.state = STATES.setdefault(module.__name__, generator.bit_generator.state)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
