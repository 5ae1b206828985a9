"""Builds engines with a real TensorRT or OpenVINO, in a child process."""
