"""max: nothing is clipped."""

from ..method import Method

METHOD = Method("max", "the largest magnitude, for each channel where there is an axis")
