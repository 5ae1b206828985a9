"""The matrix of exporters and networks, see `__main__`."""
