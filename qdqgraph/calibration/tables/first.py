"""`TableFirst`: the scales of a table, and measured ones for the tensors that it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...graph.graph import Graph
from ...graph.pair import Pair
from ...proposals.proposal import SetPair
from ..fitted import Fitted
from ..statistics.spread import Spread
from .table import Table


@dataclass(frozen=True)
class TableFirst:
    """Scales from a table where it has them, else from data (`repair.measured.Measured`).

    Attributes:
        table: the scales by tensor name.
        rest: what data say of the tensors of the same graph.
    """

    table: Table
    rest: Fitted

    @property
    def provenance(self) -> str:
        """Where the scales come from."""
        return f"{self.table.provenance}; other tensors: {self.rest.provenance}"

    def scale(self, sites: Sequence[str]) -> float | None:
        """The largest scale: of the table's for the sites that it has, and of the one measured for the others."""
        found = (self.table.scale(sites), self.rest.scale(self._others(sites)))
        return max((scale for scale in found if scale is not None), default=None)

    def method(self, sites: Sequence[str]) -> str:
        """The table if it has one of these sites, else the method."""
        return self.table.method(sites) or self.rest.method(sites)

    def loss(self, site: str, scale: float) -> float:
        """The bits that a scale loses at a site, as the source of the site's own scale counts them."""
        return (self.table if site in self.table.scales else self.rest).loss(site, scale)

    @property
    def spreads(self) -> Mapping[str, Spread]:
        """As measured."""
        return self.rest.spreads

    def weights(self, graph: Graph) -> Iterator[tuple[Pair, SetPair]]:
        """As measured: a table has the scales of activations."""
        return self.rest.weights(graph)

    def refined(self, graph: Graph, groups: Sequence[Sequence[str]]) -> TableFirst:
        """The same with better scales for the groups without a tensor of the table, whose scales are given."""
        measured = [sites for sites in groups if len(self._others(sites)) == len(sites)]
        better = self.rest.refined(graph, measured)
        return self if better is self.rest else TableFirst(self.table, better)

    def worse(self, before: Graph, after: Graph) -> bool:
        """As measured."""
        return self.rest.worse(before, after)

    def _others(self, sites: Sequence[str]) -> list[str]:
        return [site for site in sites if site not in self.table.scales]
