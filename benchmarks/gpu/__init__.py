"""Builds, times and checks engines of ten networks on one machine: `python -m benchmarks.gpu OUT`."""
