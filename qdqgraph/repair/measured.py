"""`Measured`: what data say of the sites of a graph, as the solver asks for it.

`calibration.statistics` implements it from samples, `calibration.tables` from files of other tools. Repair and
calibration are on one floor, so neither imports the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ..graph.graph import Graph
from ..graph.pair import Pair
from ..proposals.proposal import SetPair


class Measured(Protocol):
    """Scales of sites, and what another scale costs them."""

    def scale(self, sites: Sequence[str]) -> float | None:
        """The best scale for all values of these sites, amax / 127; None if none of them was measured."""

    def loss(self, site: str, scale: float) -> float:
        """The resolution in bits that a scale loses at a site, compared with the site's own best scale; never negative.

        Half the log2 of the growth of the squared error: one bit halves the step, which quarters the error. 0 for a
        site that was not measured.
        """

    def method(self, sites: Sequence[str]) -> str:
        """How the scale of these sites was chosen: "mse", "max" …; "" if none of them was measured."""

    def weights(self, graph: Graph) -> Iterable[tuple[Pair, SetPair]]:
        """The weight pairs whose values before quantization are known and that should have other scales, with these and
        the integers that follow."""

    def refined(self, graph: Graph, groups: Sequence[Sequence[str]]) -> Measured:
        """The same with better scales for these groups of sites, judged by the layers of the graph that read them."""

    def worse(self, before: Graph, after: Graph) -> bool:
        """Whether the outputs of `after` have clearly more error than those of `before`, two Q/DQ graphs of one network
        with other scales. False if there are no samples to compare them on."""

    @property
    def provenance(self) -> str:
        """Method, number of samples and digest of the data, for the metadata of the repaired model."""
