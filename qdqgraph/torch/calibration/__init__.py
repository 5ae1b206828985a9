"""Calibration: collects what each quantizer sees, and lets a method of `qdqgraph.calibration.methods` choose amax."""
