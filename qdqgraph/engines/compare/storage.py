"""What an engine built by TensorRT-RTX stores between kernels: the figures by which placements are judged.

There a convolution always writes float, and a following kernel scales, adds, activates and quantizes. On a GPU both are
one kernel, so the tensor between them is left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..layers import Engine

CONVOLUTION = "correlation"


@dataclass(frozen=True)
class Storage:
    """Figures of an engine of TensorRT-RTX.

    Attributes:
        layers: that touch data; convolutions, int8_convolutions: all, and those that read INT8.
        pools, moves: kernels that pool, and kernels that only move values.
        boundary: bytes written to tensors between blocks, by precision.
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
        """The figures of an engine."""
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
        """Bytes between blocks, in any precision."""
        return self.boundary.total()

    @property
    def float_bytes(self) -> int:
        """The part of it that is floating-point."""
        return self.boundary["FP32"] + self.boundary["FP16"]
