"""How far the forecast agrees with the kernels that TensorRT-RTX builds of whole networks: a figure for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.rtx_agreement import agreement
from qdqgraph.engines.builders.builder import built
from qdqgraph.engines.builders.how import Build
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import Target
from tests.support.engines import written
from tests.support.figures import AGREEMENT
from tests.support.whole_networks import TARGET, WHOLE

FLOORS = {
    "SqueezeNet": 0.90,
    "ShuffleNet": 0.98,
    "Inception v2": 0.99,
    "ResNet-50": 0.98,
    "DenseNet-121": 0.99,
    "ResNet-18, QAT": 0.97,
    "MobileNet v2, QAT": 1.00,
    "digits sample": 1.00,
    "YOLOv5s sample": 1.00,
    "vision transformer": 0.95,
}
"""The share of joints (`benchmarks/rtx_agreement.py`) on which forecast and build agreed when this was recorded, in
whole per cent, rounded down: less is a loss."""


@pytest.mark.parametrize("name", WHOLE)
def test_the_kernels_of_a_whole_network_agree_with_those_of_tensorrt_rtx(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = WHOLE[name]()
    graph = Graph(model, target=Target.named(TARGET))
    found = agreement(graph, forecast(graph, name), built(written(model, tmp_path), "tensorrt-rtx", Build()))
    mine, theirs = found.kernels
    kernels = f"{mine} kernels forecast, {theirs} built"
    record_property(
        AGREEMENT, f"{name}: {found.share:.1%} of {found.joints} joints, {found.whole:.1%} of all; {kernels}"
    )
    assert found.joints >= 30, "too little is compared"
    assert found.share >= FLOORS[name], f"apart: {found.apart}, together: {found.together}"
