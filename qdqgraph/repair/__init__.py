"""Rounds of scan, solve and carry out, which end in a plan and a new model."""
