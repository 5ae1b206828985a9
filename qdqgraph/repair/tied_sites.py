"""`TiedSites`: a group of the solver while it grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ..rulekit.policy import Policy, SiteScale


@dataclass
class TiedSites:
    """A growing group, with everything that the next tie needs in constant time."""

    own: list[str]
    """Its sites, without those of a tie that may still be refused."""
    values: frozenset[float]
    """Current scales, as numbers, so that equality is bit-exact in one type and possible between types; two at most,
    because only one or several matters."""
    alone: frozenset[float] = frozenset()
    """The same with the measured scale of each site that has one. Such a site has one scale, whatever its pairs have: a
    tie of that site alone ends with its repair, and a second run would not find it."""
    preferred: Mapping[Policy, SiteScale] = field(default_factory=dict)
    """The site that gives the scale, for each policy of this run; empty if no site has a scale."""
    finest: tuple[float, str] | None = None
    """The smallest original scale and its site."""
    pinned: frozenset[float] = frozenset()
    types: frozenset[tuple[str, str]] = frozenset()
    scale_types: frozenset[str] = frozenset()
    policy: Policy | None = None
    limit: float | None = None
    """The smallest limit that a tie of the group sets; None if no tie sets one, and the run's limit applies."""
    tied: bool = False
    """Whether a tie that was taken names its sites."""
    joining: Sequence[list[str]] = ()
    """The sites that a tie adds."""

    @property
    def sites(self) -> list[str]:
        """All sites."""
        return [*self.own, *chain.from_iterable(self.joining)]

    def join(self) -> None:
        """Takes the sites that a tie adds; in place, because a group may grow by thousands of ties."""
        self.own.extend(chain.from_iterable(self.joining))
        self.joining = ()


def two(values: Iterable[float]) -> frozenset[float]:
    """Returns the two smallest values, or the only one."""
    return frozenset(sorted(values)[:2])
