"""`fix --data` says what the outputs lose that scales cannot win back, and which option can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.calibration.few import Few
from qdqgraph.calibration.layers.gain import output_sqnr
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.calibration.weights.lost import another_original
from qdqgraph.graph.graph import Graph
from tests.support.convolution import network, reals, reference
from tests.support.samples import uniform as data

COARSE, FINE = np.array(0.4, np.float32), np.array(1 / 127, np.float32)
"""One scale for all weights, which reach 1."""


def notes(model: onnx.ModelProto, **options: object) -> str:
    given = {"numerics": True, **options}
    return "\n".join(qdqgraph.fix(model, data=data(model), **given).notes)  # type: ignore[arg-type]


def test_weights_that_were_rounded_coarsely_are_named_with_what_helps() -> None:
    values = reals()
    coarse = network(values, stored=True, scale=COARSE)
    assert "rounding of the stored weights alone leaves the outputs at about" in notes(coarse)
    assert "--reference FLOAT.onnx" in notes(coarse)
    assert not notes(coarse, numerics=False)
    assert "--reference" not in notes(coarse, reference=reference(values))
    assert "--reference" not in notes(network(values, stored=True, scale=FINE))
    assert "--reference" not in notes(network(values, stored=False, scale=COARSE))


def test_another_original_differs_from_the_network_of_the_file_as_the_true_one_does() -> None:
    values = reals()
    model = network(values, stored=True, scale=np.array(0.05, np.float32))
    own, feeds = float_model(model, Path()), data(model, samples=8)
    drawn = another_original(Graph(model), own)
    assert drawn is not None
    found, true = output_sqnr([drawn, reference(values)], own, feeds, Path()).mean(1)
    assert abs(found - true) < 1, (found, true)


@pytest.mark.parametrize("stored", [True, False])
def test_only_stored_integers_have_lost_something(stored: bool) -> None:
    model = network(reals(), stored=stored, scale=FINE)
    assert (another_original(Graph(model), float_model(model, Path())) is not None) is stored


SKIP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,1,16,16] x) => (float[1,1,16,16] y)
<float s = {0.00787}, float s3 = {0.0108}, int8 z = {0}, int8[1,1,1,1] w = {100}, float sw = {0.01},
 int8[1,1,1,3] mix = {50, -20, 40}, float sm = {0.004}>
{
    k = DequantizeLinear (w, sw, z)
    m = DequantizeLinear (mix, sm, z)
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    c = Conv <pads = [0, 1, 0, 1]> (d, m)
    a = Add (c, x)
    q3 = QuantizeLinear (a, s3, z)
    d3 = DequantizeLinear (q3, s3, z)
    y = Conv (d3, k)
}"""


def test_outputs_that_the_repairs_make_worse_are_told_with_the_rule_that_does_it() -> None:
    """The repair rounds the skip of the residual Add, which was not rounded before."""
    said = notes(onnx.parser.parse_model(SKIP))
    assert "worse than with only the repairs that TensorRT needs" in said
    assert "--bias-correction or --ignore QDQ201 may win that back" in said
    assert not notes(onnx.parser.parse_model(SKIP), ignore=["QDQ201"])


def test_scales_are_compared_on_some_of_many_samples() -> None:
    model, steps = network(reals(), stored=True, scale=FINE), list[str]()
    qdqgraph.fix(model, data=data(model, samples=70), progress=steps.append)
    compared = [step for step in steps if "compared scales at the layers" in step]
    assert [compared[0], compared[-1]] == [f"compared scales at the layers on sample {n} of 32" for n in (1, 32)]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_few_samples_are_spread_over_all_of_them(count: int) -> None:
    feeds = [{"x": np.array(index)} for index in range(count)]
    few = Few(feeds, 32)
    found = [int(feed["x"]) for feed in few]
    assert len(found) == len(few) == min(count, 32) and found[0] == 0
    assert max(np.diff([*found, count])) <= -(-count // len(few))
