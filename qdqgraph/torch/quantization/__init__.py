"""Converts a float network to a quantized one: configuration, quantized counterparts of layers, folded BatchNorms."""
