"""What may be decided, and that what is measured of a decision is true."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

from qdqgraph.api.starting import Repaired
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.search.decisions import APART, FLOAT, MULTIPLES, Candidate
from qdqgraph.search.found import How, quality
from tests.support.searching import MODEL, starts_of


@pytest.fixture(scope="module")
def starts() -> Iterator[tuple[Repaired, ...]]:
    with starts_of(MODEL) as found:
        yield found


def test_units_scales_and_what_is_apart_may_be_decided(starts: tuple[Repaired, ...]) -> None:
    first = starts[0].start
    options = {d.option for d in first.decisions}
    assert sum(d.option == FLOAT for d in first.decisions) == 4
    assert options > {FLOAT} and options <= {FLOAT, APART, *MULTIPLES}
    for decision in first.decisions:
        scales = first.space.scaled([decision])
        assert set(scales) <= set(first.built.scales)
        assert (len(set(scales.values())) > 1) == (decision.option == APART)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_is_measured_of_a_candidate_is_what_its_model_does(
    starts: tuple[Repaired, ...], data: st.DataObject
) -> None:
    start = data.draw(st.sampled_from(starts)).start
    candidate = Candidate(start.name).with_(*data.draw(st.lists(st.sampled_from(start.decisions), max_size=5)))
    found, graph = start.found(candidate, How.BOTH), start.made(candidate)
    onnx.checker.check_model(graph.model, full_check=True)
    assert found.held is not None
    for measured, level in zip((found.searched, found.held), start.run(graph), strict=True):
        assert quality(measured) == pytest.approx(quality(level), abs=0.05)
    engine = forecast(graph, "m")
    assert found.bytes == engine.bytes
    assert found.ms == pytest.approx(start.roofline.estimate(engine, graph, "FP16").ms)


def test_dynamic_shapes_are_priced_by_those_of_the_samples(starts: tuple[Repaired, ...]) -> None:
    """Without shapes kernels move no bytes, so floating point would cost nothing."""
    static = starts[0].start
    with starts_of(MODEL.replace("[1,4,32,32]", "[n,4,h,w]")) as dynamic:
        for decisions in [(), static.decisions[:1]]:
            found = (start.found(Candidate("fix", decisions), How.SEARCHED) for start in (static, dynamic[0].start))
            assert len({(each.ms, each.bytes) for each in found}) == 1


def test_with_everything_in_float_the_outputs_are_those_of_the_float_network(starts: tuple[Repaired, ...]) -> None:
    first = starts[0].start
    everything = Candidate("fix").with_(*(d for d in first.decisions if d.option == FLOAT))
    assert all(quality(level) > 100 for level in first.run(first.made(everything)))
