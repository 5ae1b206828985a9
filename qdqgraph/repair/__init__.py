"""Repairs a model in rounds of scan, solve and carry out; the result is a new model and its plan."""
