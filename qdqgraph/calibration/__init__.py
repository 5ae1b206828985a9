"""What data says of a model: inputs to run it on, and the ranges that its tensors reach."""
