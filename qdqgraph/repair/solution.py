"""`Solution`: the groups of sites that share a scale, and the outcome of each tie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..rulekit.finding import Finding
from .measured import Measured


@dataclass(frozen=True)
class Change:
    """A site whose scale changes.

    Attributes:
        site: tensor name.
        own: its original scale.
        new: the scale of its group.
        lost: bits lost: log2(new / own), or measured on data.
        method: how the scale was measured; "" without data.
    """

    site: str
    own: float
    new: float
    lost: float
    method: str = ""


@dataclass(frozen=True)
class Group:
    """Sites with one scale.

    Attributes:
        sites: tensor names in topological order.
        scale: the scale of the group, a scalar array of the pairs' dtype; None if no site has a scale. If the pairs
            have several floating-point types, each can represent it, and the array is of the widest.
        anchor: the site that the scale comes from; "" for a fixed scale.
        agreed: whether all its pairs have this scale already.
        changes: the sites whose scale changes.
    """

    sites: tuple[str, ...]
    scale: np.ndarray | None
    anchor: str
    agreed: bool
    changes: tuple[Change, ...]

    @cached_property
    def bits_lost(self) -> float:
        """The largest loss of resolution in the group, in bits; 0 if no site loses any."""
        return max((0.0, *(change.lost for change in self.changes)))


@dataclass(frozen=True)
class Solution:
    """The groups, and the outcome of each tie.

    Attributes:
        groups: the sites joined by accepted ties; a tie over one site joins that site's own pairs.
        findings: the open tie findings: accepted ones with the group's scale, refused ones with the reason.
        changes: the sites whose scale changes.
        measured: the statistics that give scales to sites without one; None without data.
    """

    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]
    measured: Measured | None = None
    _of: Mapping[str, Group] = field(default_factory=dict, repr=False)

    def group(self, site: str) -> Group | None:
        """Returns the group of a site; None if no accepted tie contains it."""
        return self._of.get(site)
