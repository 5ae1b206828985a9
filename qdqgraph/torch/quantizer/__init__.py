"""The PyTorch module that owns an amax, and how it is chosen by name."""
