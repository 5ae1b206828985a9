"""Why an engine's numbers differ from ONNX Runtime's, with the source, and what is assumed where no document says."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto

from ...graph.graph import Graph, key
from .blocks import HALVES, Block

GUIDE = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html"
)
ENGINES = "https://github.com/NVIDIA/TensorRT/tree/release/11.0/tools/experimental/trt-engine-explorer/examples"
TYPES = (
    "https://docs.nvidia.com/deeplearning/tensorrt/11.0.0/api/migration/tensorrt-10x-to-11x-trtexec.html (--int8 --fp16)"
)

KINDS: Mapping[str, tuple[str, str]] = {
    "sums": (
        "the products of integers are summed exactly in INT32 and scaled once in FP32; ONNX Runtime dequantizes first "
        "and rounds every partial sum",
        f"{ENGINES} (tactics i8i8_i8i32, bias in FP32)",
    ),
    "fp16": ("the kernel reads or writes FP16 where the file has FP32", TYPES),
    "fp16-weights": ("the kernel has FP16 weights where the file has FP32", TYPES),
    "wide": (
        "the file is FP16, and the kernel rounds nothing between its nodes: dequantized inputs and weights, sums and "
        "activations stay FP32 until the result is stored",
        f"assumed; {ENGINES}",
    ),
}
"""Kind of difference → what it is, and its source."""

LABEL = "derived from documents, not verified on a GPU"
"""The label of every number of this package."""

ASSUMPTIONS = (
    "Q rounds half to even and saturates to [-128, 127], as the developer guide documents",
    "an INT8 kernel multiplies its INT32 sums by input scale x weight scale (rounded to FP32) and adds the bias in FP32; "
    "a fused multiply-add, or a scale divided by the output scale, would change the last bit of FP32",
    "a kernel in 16 bits accumulates in FP32 and rounds its result once",
)
"""What is assumed."""


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
