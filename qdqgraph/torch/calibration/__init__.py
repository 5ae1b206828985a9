"""Calibration: collects each quantizer's inputs and computes amax by a method of `qdqgraph.calibration.methods`."""
