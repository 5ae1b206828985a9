"""Why an engine's numbers differ from ONNX Runtime's, with the source, and what is assumed where no document says."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto

from ...graph.graph import Graph, key
from ..forecast.evidence import GUIDE, ISSUE
from .blocks import HALVES, Block

MAINTAINER = "https://github.com/NVIDIA/Model-Optimizer/issues/869"
TYPES = "https://docs.nvidia.com/deeplearning/tensorrt/11.0.0/api/migration/tensorrt-10x-to-11x-trtexec.html"

KINDS: Mapping[str, tuple[str, str]] = {
    "sums": (
        "the products of integers are summed exactly in INT32 and scaled once; ONNX Runtime multiplies dequantized "
        "values and rounds the partial sums",
        MAINTAINER,
    ),
    "fp16": ("the kernel reads or writes 16 bits where the file has FP32 (--fp16)", TYPES),
    "fp16-weights": ("the kernel has 16-bit weights where the file has FP32 (--fp16)", TYPES),
    "wide": (
        "the file has 16 bits, and the kernel rounds nothing to them inside: dequantized inputs and weights, sums and "
        "activations stay wider until the result is stored",
        MAINTAINER,
    ),
}
"""Kind of difference → what it is, and its source."""

LABEL = "derived from documents, not verified on a GPU"
"""The label of every number of this package."""

ASSUMPTIONS = (
    f"Q rounds ties to even and saturates to [-128, 127] ({GUIDE}); some kernels of TensorRT 8.6 were seen to round "
    f"ties up ({ISSUE}3009)",
    "an INT8 kernel multiplies its INT32 sums by input scale x weight scale (rounded to FP32), then adds the bias in "
    "FP32; no document says whether it uses a fused multiply-add or divides by the output scale first, which changes "
    "the last bit of FP32",
    "a kernel in 16 bits sums in FP32 and rounds its result once; no document says so",
)
"""What is assumed, with the source where a document says it."""


def kinds(graph: Graph, block: Block, *, exact: bool) -> tuple[str, ...]:
    """The kinds of difference that a kernel has, by the names of `KINDS`.

    Args:
        graph: the Q/DQ graph.
        block: the kernel.
        exact: whether its integers are summed exactly.
    """
    found = ["sums"] if exact else []
    tensors = (*block.layer.inputs, *block.layer.outputs)
    file = {graph.dtype(t.name) for node in block.nodes for t in (*node.inputs, *node.outputs)}
    if TensorProto.FLOAT in file and any(t.precision in HALVES for t in tensors):
        found.append("fp16")
        core = block.core
        constant = core is not None and any(graph.is_constant(t.name) for t in core.inputs[1:2])
        found += ["fp16-weights"] if block.half is not None and constant else []
    inner = {graph.dtype(key(node)) for node in block.nodes}
    return tuple([*found, "wide"] if inner & set(HALVES.values()) else found)
