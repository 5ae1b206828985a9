"""Turns a float network into a quantized one: configuration, quantized twins of layers, folded norms."""
