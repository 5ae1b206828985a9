"""Verifies a repair: compares outputs in ONNX Runtime, and the quantization of two models."""
