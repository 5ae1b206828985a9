"""The types of tensors by short names: the numbers that `Graph.dtype` returns.

Source: https://onnx.ai/onnx/intro/concepts.html#element-type (`onnx.TensorProto.DataType`).
"""

from onnx import TensorProto

FP32: int = TensorProto.FLOAT
FP16: int = TensorProto.FLOAT16
BF16: int = TensorProto.BFLOAT16
FP64: int = TensorProto.DOUBLE
FP8: int = TensorProto.FLOAT8E4M3FN
INT8: int = TensorProto.INT8
UINT8: int = TensorProto.UINT8
INT32: int = TensorProto.INT32
INT64: int = TensorProto.INT64
BOOL: int = TensorProto.BOOL
