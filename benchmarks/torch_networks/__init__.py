"""Benchmarks of the PyTorch side on real networks; see `__main__`."""
