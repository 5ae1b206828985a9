"""Rules applied to a PyTorch network: its graph is probed, and its quantizers are tied."""
