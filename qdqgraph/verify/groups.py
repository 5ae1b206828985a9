"""`SiteGroup`: how reports name the sites that share a scale."""

from __future__ import annotations

from dataclasses import dataclass

from ..repair.solution import Solution


@dataclass(frozen=True)
class SiteGroup:
    """Sites that share a scale, or will after the repair.

    Attributes:
        name: the site that the scale comes from, else the first one; of a site that no tie names the site itself.
        sites: their number.
    """

    name: str
    sites: int

    @classmethod
    def of(cls, groups: Solution, site: str) -> SiteGroup:
        """The group of a site."""
        group = groups.group(site)
        return cls(site, 1) if group is None else cls(group.anchor or group.sites[0], len(group.sites))
