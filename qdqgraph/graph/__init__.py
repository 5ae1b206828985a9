"""The read-only view of a model that rules see: nodes, tensors, pairs, sites and blocks."""
