"""Builds engines with a real TensorRT or OpenVINO, in a child process."""

LIBRARIES = ("tensorrt-rtx", "tensorrt", "trtexec", "openvino")
"""What can build an engine."""
MODES = ("qdq", "fp16", "best")
"""How to build; see `Build`."""
