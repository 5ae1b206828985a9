"""max: no calibration value is clipped."""

from ..method import Method

METHOD = Method("max", "the largest magnitude, per channel if the quantizer has an axis")
