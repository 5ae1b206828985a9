"""Work grows with the number of nodes, not with its square: each graph is one construct that some walk follows.

Lines are counted, not seconds, so the result does not depend on the machine.
"""

from __future__ import annotations

import math
import sys
from types import FrameType
from typing import Any

import pytest

from benchmarks.growing import KINDS
from qdqgraph import fix, rules

SMALL, LARGE = 80, 240
MOST = 1.3
"""The largest exponent; that of a square is 2."""


def lines(kind: str, size: int) -> int:
    """The lines that a repair of a graph executes."""
    model, known, count = KINDS[kind](size), rules(installed=False), 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        fix(model, known)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_a_repair_takes_time_in_proportion_to_the_nodes(kind: str) -> None:
    small, large = (lines(kind, size) for size in (SMALL, LARGE))
    assert math.log(large / small) / math.log(LARGE / SMALL) < MOST
