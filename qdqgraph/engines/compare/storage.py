"""Sums what an engine built by TensorRT-RTX stores between kernels, to compare Q/DQ placements.

In these builds a convolution always writes float, and the next kernel scales, adds, activates and quantizes. On a GPU
both are one kernel, so the tensor between them is not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..layers import Engine, Layer

CONVOLUTION = "correlation"
PRODUCT = "gemm"
"""What TensorRT-RTX calls a matrix product that is a separate kernel; one of few rows is a part of another kernel."""


@dataclass(frozen=True)
class Storage:
    """Figures of an engine built by TensorRT-RTX.

    Attributes:
        layers: number of layers that access tensors.
        convolutions: number of convolutions.
        int8_convolutions: number of convolutions with an INT8 input.
        int8_products: number of matrix products with an INT8 input that are separate kernels.
        pools: number of pooling kernels.
        moves: number of kernels that only move data.
        boundary: bytes written to tensors between convolution blocks, by precision.
        around_products: the part of `boundary` that those matrix products read or write, by precision.
        moved: bytes that all layers read and write.
        passed: the part of them that all layers read and write at tensors between convolution blocks, by precision.
    """

    layers: int
    convolutions: int
    int8_convolutions: int
    int8_products: int
    pools: int
    moves: int
    boundary: Counter[str]
    around_products: Counter[str]
    moved: int
    passed: Counter[str]

    @classmethod
    def of(cls, engine: Engine) -> Storage:
        """Returns the figures of an engine."""
        working = engine.working
        convolutions = [x for x in working if x.kind == CONVOLUTION]
        products = [x for x in working if x.kind == PRODUCT and _reads_int8(x)]
        inside = {t.name for x in convolutions for t in x.outputs}
        near = {t.name for x in products for t in (*x.inputs, *x.outputs)}
        boundary: Counter[str] = Counter()
        around: Counter[str] = Counter()
        passed: Counter[str] = Counter()
        for layer in working:
            for tensor in (*{t.name: t for t in layer.inputs}.values(), *layer.outputs):
                passed[tensor.precision] += 0 if tensor.name in inside else tensor.bytes
            boundary.update({t.precision: 0 for t in layer.outputs})
            for tensor in layer.outputs:
                if tensor.name not in inside:
                    boundary[tensor.precision] += tensor.bytes
                    around[tensor.precision] += tensor.bytes if tensor.name in near else 0
        return cls(
            layers=len(working),
            convolutions=len(convolutions),
            int8_convolutions=sum(map(_reads_int8, convolutions)),
            int8_products=len(products),
            pools=sum("pool" in x.kind for x in working),
            moves=sum("Move" in x.name and x.kind == "kgen" for x in working),
            boundary=+boundary,
            around_products=+around,
            moved=engine.bytes,
            passed=+passed,
        )

    @property
    def boundary_bytes(self) -> int:
        """Bytes written between blocks, in any precision."""
        return self.boundary.total()

    @property
    def float_bytes(self) -> int:
        """Bytes written between blocks in FP32 or FP16."""
        return _floats(self.boundary)

    @property
    def passed_bytes(self) -> int:
        """Bytes read and written between blocks, in any precision."""
        return self.passed.total()

    @property
    def passed_floats(self) -> int:
        """Bytes read and written between blocks in FP32 or FP16."""
        return _floats(self.passed)

    def boundary_since(self, before: Storage) -> Counter[str]:
        """Returns the bytes between blocks to compare with those of `before`, by precision.

        Where more matrix products run in INT8 than before, what they read and write in addition does not count: as a
        part of a floating-point kernel, a product of few rows stores neither (measured on TensorRT-RTX 1.7.1).
        """
        gained = self.int8_products > before.int8_products
        return self.boundary - (self.around_products - before.around_products) if gained else self.boundary


def _floats(bytes: Counter[str]) -> int:
    return bytes["FP32"] + bytes["FP16"]


def _reads_int8(layer: Layer) -> bool:
    return any(t.precision == "INT8" for t in layer.inputs)
