"""`Fitted`: scales that a method fits to statistics, as the solver asks for them (`repair.measured.Measured`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..methods.percentile import DEFAULT_PERCENTILE
from .scales import AUTO, Choice, best_scale, error
from .spread import Spread
from .statistics import Statistics

EXACT = 1e-12
"""Squared error relative to the energy up to which rounding counts as exact: values that are multiples of the scale."""


class Fitted:
    """Scales for sites of a Q/DQ graph from the statistics of its float network.

    Args:
        statistics: of the float network.
        names: tensor of the Q/DQ graph → tensor of the float network, for those with another name.
        method: a name of `calibration.methods`, or "auto".
        percentile: for the method percentile, in percent.
    """

    def __init__(
        self,
        statistics: Statistics,
        names: Mapping[str, str],
        method: str = AUTO,
        percentile: float = DEFAULT_PERCENTILE,
    ) -> None:
        self.statistics, self.method, self.percentile = statistics, method, percentile
        self._names = names
        self._choices: dict[frozenset[str], Choice | None] = {}

    def choice(self, sites: Sequence[str]) -> Choice | None:
        """What the method chooses for these sites together; None if none was measured, or all values are zero."""
        known = frozenset(name for site in sites if (name := self._name(site)) in self.statistics)
        if known not in self._choices:
            spreads = [self.statistics[name] for name in sorted(known)]
            found = best_scale(spreads, self.method, percentile=self.percentile) if spreads else None
            self._choices[known] = found if found is not None and found.scale > 0 else None
        return self._choices[known]

    def scale(self, sites: Sequence[str]) -> float | None:
        """The scale of `choice`."""
        found = self.choice(sites)
        return None if found is None else found.scale

    def loss(self, site: str, scale: float) -> float:
        """Half the log2 of the growth of the squared error at a site, compared with its own best scale, in bits."""
        spread, own = self._spread(site), self.choice([site])
        if spread is None or own is None:
            return 0.0
        exact = EXACT * spread.energy()
        found, best = error(spread, scale), error(spread, own.scale)
        return 0.0 if found <= exact else max(0.0, 0.5 * math.log2(found / max(best, exact)))

    @property
    def provenance(self) -> str:
        """Method, samples and digest of the data."""
        found = self.statistics
        return f"{self.method}; {found.samples} samples; sha256 {found.data}"

    def _name(self, site: str) -> str:
        return self._names.get(site, site)

    def _spread(self, site: str) -> Spread | None:
        return self.statistics.get(self._name(site))
