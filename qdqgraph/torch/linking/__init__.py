"""Applies the graph rules to a PyTorch network: probes its graph, and ties its quantizers."""
