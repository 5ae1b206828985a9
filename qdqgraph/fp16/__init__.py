"""FP16 around INT8: `to_fp16` converts the unquantized part of a Q/DQ model to FP16, for strongly typed TensorRT."""

from .convert import Fp16Model, Kept, refuse_target, to_fp16, with_fp16

__all__ = ["Fp16Model", "Kept", "refuse_target", "to_fp16", "with_fp16"]
