"""`Int8Share`: how much of a network runs in INT8, by a forecast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..operators import KERNELS, WEIGHTED, is_weighted
from .layers import EIGHT_BITS, Engine

WEIGHTED_KERNELS = frozenset(KERNELS[operator] for operator in WEIGHTED)
"""The kinds of forecast layers that compute a convolution or matrix product."""


@dataclass(frozen=True)
class Int8Share:
    """What of a network runs in INT8, by a forecast.

    A weighted layer is a convolution or a matrix product, also of two activations, and also in a form that TensorRT
    has no kernel for: ConvInteger, QLinearConv, MatMulNBits and their like, which never count as INT8.

    Attributes:
        source: the source of the numbers, "forecast for trt-10".
        weighted: number of weighted layers.
        int8: number of those that compute in INT8, or in FP8.
        tensors: number of activation tensors that are stored as INT8, or as FP8.
        bytes: bytes of activations that all layers read and write per run; a tensor of unknown size counts as 0.
        unsized: number of tensors of unknown size.
        refused: codes of the findings for which TensorRT refuses the file, sorted; empty if it accepts the file.
        kind: the types of the quantized tensors, in words: "INT8", "FP8" or "FP8 and INT8".
        kernels: number of layers that run a kernel, reformats included.
        reformats: number of those that only copy or convert a tensor.
        undecided: number of layers that TensorRT may form otherwise, by timing; the other numbers count them as here.
    """

    source: str
    weighted: int
    int8: int
    tensors: int
    bytes: int
    unsized: int = 0
    refused: tuple[str, ...] = ()
    kind: str = "INT8"
    kernels: int = 0
    reformats: int = 0
    undecided: int = 0

    @classmethod
    def of(cls, engine: Engine, refused: Iterable[str] = ()) -> Int8Share:
        """Returns the share of a forecast engine.

        Args:
            engine: a forecast; the layers of other engines have other kinds.
            refused: codes of the findings for which TensorRT refuses the file.
        """
        cores = [layer for layer in engine.layers if layer.kind in WEIGHTED_KERNELS]
        working = [layer for layer in engine.layers if layer.works]
        stored = {t.name: t for layer in engine.layers for t in (*layer.inputs, *layer.outputs)}.values()
        return cls(
            source=engine.source,
            weighted=sum(layer.kind in WEIGHTED_KERNELS or is_weighted(layer.kind) for layer in engine.layers),
            int8=sum(layer.precision in EIGHT_BITS for layer in cores),
            tensors=sum(t.precision in EIGHT_BITS for t in stored),
            bytes=engine.bytes,
            unsized=sum(min(t.dims, default=0) < 0 for t in stored),
            refused=tuple(sorted(set(refused))),
            kind=" and ".join(sorted({t.precision for t in stored} & EIGHT_BITS)) or "INT8",
            kernels=len(working),
            reformats=sum(bool(layer.cause) for layer in working),
            undecided=sum(bool(layer.alternative) for layer in working),
        )

    @property
    def counts(self) -> str:
        """The numbers in words: "3 of 5 weighted layers in INT8, 7 INT8 tensors, 1,234 bytes"."""
        unknown = f" and {self.unsized} tensors of unknown size" if self.unsized else ""
        stored = f"{self.tensors} {self.kind} tensors, {self.bytes:,} bytes{unknown}"
        return f"{self.int8} of {self.weighted} weighted layers in {self.kind}, {stored}"

    @property
    def warning(self) -> str:
        """What a user must know besides the numbers: that nothing runs in INT8; "" if something does."""
        if self.weighted and not self.int8:
            return "no weighted layer runs in INT8"
        return "" if self.weighted else "the file has no weighted layer"

    @property
    def sentence(self) -> str:
        """The numbers, their source, and the warning; also that TensorRT refuses the file, so that nothing runs yet."""
        unless = f", if TensorRT did not refuse this file: {', '.join(self.refused)}" if self.refused else ""
        return "; ".join(filter(None, (f"{self.counts} ({self.source}{unless})", self.warning)))

    def worse_than(self, before: Int8Share) -> str:
        """Returns why TensorRT runs this file worse than the file `before`; "" if it does not.

        It compares the weighted layers in INT8, and the bytes unless TensorRT refuses the other file.
        """
        if self.int8 < before.int8:
            return f"would take {before.int8 - self.int8} of {self.weighted} weighted layers out of INT8"
        if self.bytes > before.bytes and not before.refused:
            return f"would add {self.bytes - before.bytes:,} bytes a run"
        return ""
