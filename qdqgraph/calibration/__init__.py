"""Inputs for running a model, the ranges that its tensors reach on them, and calibration methods."""
