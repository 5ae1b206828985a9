"""How far the forecast agrees with the kernels that TensorRT-RTX builds of whole networks: a figure for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rtx_agreement import agreement
from qdqgraph.engines.builders.builder import built
from qdqgraph.engines.builders.how import Build
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import Target
from tests.support.engines import written
from tests.support.figures import AGREEMENT
from tests.support.forecasts import OLD, SQUARE
from tests.support.models import build as model_of
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


def network(seed: int, blocks: int = 4) -> str:
    """A small network of convolution blocks with activations, skips, gates, Concats, pools and resizes, one after another."""
    draw = np.random.default_rng(seed)
    lines, x = ["a0 = t.conv4 (x, s1)", "r0 = Relu (a0)"], "r0"
    acts = ("Relu ({0})", "HardSwish ({0})", "LeakyRelu ({0})", "Clip ({0})")
    for i in range(1, blocks + 1):
        act = acts[draw.integers(len(acts))].format(f"a{i}")
        kind = draw.integers(5)
        lines += [f"a{i} = t.conv4 ({x}, s{draw.integers(1, 5)})", f"b{i} = {act}"]
        if kind == 0:
            lines += [f"k{i} = t.pair ({x}, s2)", f"q{i} = t.pair (b{i}, s3)", f"c{i} = Add (q{i}, k{i})"]
        elif kind == 1:
            lines += [f"m{i} = GlobalAveragePool (b{i})", f"n{i} = HardSigmoid (m{i})", f"c{i} = Mul (b{i}, n{i})"]
        elif kind == 2:
            lines += [f"e{i} = Softmax <axis = 1> (b{i})", f"c{i} = Mul (e{i}, b{i})"]
        elif kind == 3:
            lines += [f"m{i} = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b{i})", f"c{i} = Sin (m{i})"]
        else:
            lines += [
                f"t{i} = Transpose <perm = [0, 1, 3, 2]> (b{i})",
                f"p{i} = t.pair (t{i}, s4)",
                f"c{i} = Tanh (p{i})",
            ]
        x = f"c{i}"
    return SQUARE.format("\n".join([*lines, f"y = t.conv4 ({x}, s5)"]))


@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_of_random_networks_agree_with_those_of_tensorrt_rtx(seed: int, tmp_path: Path) -> None:
    """The share of joints (`benchmarks/rtx_agreement.py`) on which forecast and build agree."""
    pytest.importorskip("tensorrt_rtx")
    model = model_of(network(seed))
    graph = Graph(model, target=Target.named("trt-rtx"))
    real = built(written(model, tmp_path), "tensorrt-rtx", Build())
    found = agreement(graph, forecast(graph, "m"), real)
    assert found.joints >= 8 and found.share >= 0.85, (found.apart, found.together)
    old = agreement(graph, forecast(graph.aimed_at(Target.named(OLD)), "m"), real)
    assert found.share >= old.share
