"""Compares an exported file in ONNX Runtime with the fake-quantized model."""
