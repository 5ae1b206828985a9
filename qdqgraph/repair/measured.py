"""`Measured`: what data say of the sites of a graph, as the solver asks for it.

`calibration.statistics` implements it. Repair and calibration are on one floor, so neither imports the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

EXACT = 1e-12
"""Relative squared error up to which a rounding counts as exact: FP32 values that are multiples of the scale."""


class Measured(Protocol):
    """Scales and rounding errors of sites, from the values of the float graph."""

    def scale(self, sites: Sequence[str]) -> float | None:
        """The best scale for all values of these sites, amax / 127; None if none of them was measured."""

    def error(self, site: str, scale: float) -> float | None:
        """The mean squared error of INT8 rounding and clipping at this scale, divided by the mean square of the site's
        values; None if the site was not measured."""

    @property
    def provenance(self) -> str:
        """Method, number of samples and digest of the data, for the metadata of the repaired model."""


def measured_loss(measured: Measured, site: str, scale: float) -> float:
    """The resolution in bits that a scale loses at a site, compared with the site's own best scale.

    Half the log2 of the growth of the squared error: one bit halves the step, which quarters the error. 0 for a site
    without values, or if the scale rounds nothing.
    """
    own = measured.scale([site])
    best = None if own is None else measured.error(site, own)
    found = measured.error(site, scale)
    if best is None or found is None or found <= EXACT:
        return 0.0
    return max(0.0, 0.5 * math.log2(found / max(best, EXACT)))
