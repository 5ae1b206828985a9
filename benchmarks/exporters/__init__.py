"""Benchmark of the matrix of exporters and networks; see `__main__`."""
