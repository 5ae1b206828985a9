"""Sums what an engine built by TensorRT-RTX stores between kernels, to compare Q/DQ placements.

In these builds a convolution always writes float, and the next kernel scales, adds, activates and quantizes. On a GPU
both are one kernel, so the tensor between them is not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..layers import Engine

CONVOLUTION = "correlation"


@dataclass(frozen=True)
class Storage:
    """Figures of an engine built by TensorRT-RTX.

    Attributes:
        layers: number of layers that access tensors.
        convolutions: number of convolutions.
        int8_convolutions: number of convolutions with an INT8 input.
        pools: number of pooling kernels.
        moves: number of kernels that only move data.
        boundary: bytes written to tensors between convolution blocks, by precision.
        moved: bytes that all layers read and write.
    """

    layers: int
    convolutions: int
    int8_convolutions: int
    pools: int
    moves: int
    boundary: Counter[str]
    moved: int

    @classmethod
    def of(cls, engine: Engine) -> Storage:
        """Returns the figures of an engine."""
        working = engine.working
        convolutions = [x for x in working if x.kind == CONVOLUTION]
        inside = {t.name for x in convolutions for t in x.outputs}
        boundary: Counter[str] = Counter()
        for layer in working:
            boundary.update({t.precision: 0 for t in layer.outputs})
            for tensor in layer.outputs:
                if tensor.name not in inside:
                    boundary[tensor.precision] += tensor.bytes
        return cls(
            layers=len(working),
            convolutions=len(convolutions),
            int8_convolutions=sum(any(t.precision == "INT8" for t in x.inputs) for x in convolutions),
            pools=sum("pool" in x.kind for x in working),
            moves=sum("Move" in x.name and x.kind == "kgen" for x in working),
            boundary=+boundary,
            moved=engine.bytes,
        )

    @property
    def boundary_bytes(self) -> int:
        """Bytes written between blocks, in any precision."""
        return self.boundary.total()

    @property
    def float_bytes(self) -> int:
        """Bytes written between blocks in FP32 or FP16."""
        return self.boundary["FP32"] + self.boundary["FP16"]
