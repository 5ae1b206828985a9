"""Engines built by a real TensorRT or OpenVINO, in a process of its own."""
