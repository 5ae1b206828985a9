"""`Table`: the scales of tensors from a file of another tool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import ModelError
from ...graph.amax import INT8_BOUND
from ...graph.graph import Graph
from ...graph.pair import Pair
from ...proposals.proposal import SetPair


@dataclass(frozen=True)
class Table:
    """Scales by tensor name, as another tool measured them; gives scales to the solver (`repair.measured.Measured`).

    Attributes:
        scales: tensor name → scale, amax / 127 of symmetric INT8, in the units of the tensor.
        source: the format and the file, for messages and metadata: "TensorRT calibration cache x.cache".
        skipped: names of entries without a usable range (not 8 bits, per channel, zero or not finite), with the reason.
    """

    scales: Mapping[str, float]
    source: str
    skipped: Mapping[str, str]

    @property
    def provenance(self) -> str:
        """Where the scales come from."""
        return self.source

    def refined(self, graph: Graph, groups: Sequence[Sequence[str]]) -> Table:
        """Itself: the scales are given."""
        return self

    def worse(self, before: Graph, after: Graph) -> bool:
        """False: there are no samples."""
        return False

    def weights(self, graph: Graph) -> tuple[tuple[Pair, SetPair], ...]:
        """None: a table has the scales of activations."""
        return ()

    def scale(self, sites: Sequence[str]) -> float | None:
        """The largest scale of these sites; None if the table has none of them."""
        return max((self.scales[site] for site in sites if site in self.scales), default=None)

    def method(self, sites: Sequence[str]) -> str:
        """The source, for sites that the table has."""
        return self.source if any(site in self.scales for site in sites) else ""

    def loss(self, site: str, scale: float) -> float:
        """The bits that a larger scale loses at a site, log2(scale / its own); 0 if the table lacks the site."""
        own = self.scales.get(site)
        return math.log2(scale / own) if own is not None and scale > own else 0.0


def checked(found: Mapping[str, float | str], source: str) -> Table:
    """Returns a table of usable scales. Skipped are entries with a reason instead of a scale, and scales that are not
    positive and finite.

    Raises:
        ModelError: no entry has a usable scale.
    """
    usable = {name: value for name, value in found.items() if isinstance(value, float) and 0 < value < math.inf}
    skipped = {n: v if isinstance(v, str) else f"its range is {v:g}" for n, v in found.items() if n not in usable}
    if not usable:
        first = next((f"; '{name}': {why}" for name, why in skipped.items()), "")
        raise ModelError(f"it has no usable range for INT8{first}")
    return Table(usable, source, skipped)


def scale_of_range(low: float, high: float) -> float:
    """The symmetric INT8 scale of a range [low, high]; nan if an end is nan."""
    if math.isnan(low) or math.isnan(high):
        return math.nan
    return max(abs(low), abs(high)) / INT8_BOUND
