"""A float network becomes a quantized one: configuration, twins of layers, folded norms."""
