"""The engine that TensorRT's documented rules predict for a graph."""
