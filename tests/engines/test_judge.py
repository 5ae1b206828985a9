"""How many forecasts a repair makes: each takes as long as a run of the rules."""

import pytest

from qdqgraph import check, fix
from qdqgraph.engines.forecast.forecast import fused
from qdqgraph.engines.layers import Engine
from qdqgraph.rulekit import Graph
from tests.support.models import CONCAT, build


@pytest.fixture
def forecasts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets of the forecasts that judges make."""
    found: list[str] = []

    def counted(graph: Graph, name: str) -> Engine:
        found.append(f"{graph.target.name} {graph.target.joined}")
        return fused(graph, name)

    monkeypatch.setattr("qdqgraph.engines.forecast.judge.fused", counted)
    return found


def test_a_repair_that_makes_nothing_worse_is_forecast_before_and_after(forecasts: list[str]) -> None:
    assert fix(build(CONCAT)).applied
    assert len(forecasts) == 2 and len(set(forecasts)) == 1


def test_the_rehearsal_of_a_check_takes_the_forecast_of_the_check(forecasts: list[str]) -> None:
    assert check(build(CONCAT), rehearse=True).after is not None
    assert len(forecasts) == 1
