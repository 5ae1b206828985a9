"""The read-only view of a model that rules see: nodes, pairs, sites, blocks and the table of operators."""
