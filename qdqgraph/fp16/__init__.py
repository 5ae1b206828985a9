"""FP16 around INT8: `to_fp16` gives a Q/DQ model the types that a strongly typed TensorRT build needs."""

from .convert import Fp16Model, Kept, refuse_target, to_fp16, with_fp16

__all__ = ["Fp16Model", "Kept", "refuse_target", "to_fp16", "with_fp16"]
