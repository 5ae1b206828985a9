"""Builds engines with a real TensorRT or OpenVINO, in a child process."""

LIBRARIES = ("tensorrt-rtx", "tensorrt", "trtexec", "openvino")
"""The supported builders."""
MODES = ("qdq", "fp16", "best")
"""The build modes; see `Build`."""
