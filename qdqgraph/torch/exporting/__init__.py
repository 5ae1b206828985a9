"""ONNX export of a quantized network, by both exporters."""
