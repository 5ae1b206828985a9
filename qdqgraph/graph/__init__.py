"""The read-only view of a model that rules receive: nodes, tensors, pairs, sites and blocks."""
