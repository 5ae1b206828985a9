"""Calibration: amax by max, percentile, mse or entropy."""
