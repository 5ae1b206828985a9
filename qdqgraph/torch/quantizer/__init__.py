"""The PyTorch module that owns an amax, the pair that it becomes in a file, and how modules are selected by name."""
