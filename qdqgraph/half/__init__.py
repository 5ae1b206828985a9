"""FP16 around INT8: `halve` gives a Q/DQ model the types that a strongly typed TensorRT build needs."""

from .convert import Halved, Kept, finished, halve, refuse

__all__ = ["Halved", "Kept", "finished", "halve", "refuse"]
