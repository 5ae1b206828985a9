"""Engines as layer graphs: forecast from an ONNX file, built by a real TensorRT, or read from trtexec exports."""
