"""The documented rules by which TensorRT forms kernels around Q/DQ, with sources. Forecasts use no other rules.

Forecasts and docs/engines.md refer to the rules by these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..layers import Reason

GUIDE = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html"
)
CATALOG = "https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/fusion-catalog.html"
TOOLKIT = (
    "https://docs.nvidia.com/deeplearning/tensorrt/tensorflow-quantization-toolkit/docs/docs/add_custom_qdq_cases.html"
)
OPTIMIZER = "https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/quantization/graph_utils.py"
ENGINES = "https://github.com/NVIDIA/TensorRT/tree/release/11.0/tools/experimental/trt-engine-explorer/examples"
ISSUE = "https://github.com/NVIDIA/TensorRT/issues/"

RULES: dict[str, tuple[str, str]] = {
    "R10": ("a Q moves backward and a DQ forward over layers that commute with rounding", GUIDE),
    "R11": ("a weighted layer that reads DQ on data and weights runs in INT8; bias, BN and activation fuse", GUIDE),
    "R12": (
        "a residual Add fuses with the unquantized convolution operand; "
        "its result has the precision of the other operand",
        TOOLKIT,
    ),
    "R13": (
        "convolution, activation and residual Add are one kernel",
        "https://github.com/NVIDIA/Model-Optimizer/pull/450",
    ),
    "R14": (
        "several Qs with one scale on a tensor merge; with different scales, or next to a float reader, they do not",
        GUIDE,
    ),
    "R15": (
        "a Q after a Concat is cloned onto each input; it cancels only if the scale there is equal",
        OPTIMIZER,
    ),
    "R16": ("MaxPool commutes with Q/DQ; it fuses with the upstream convolution if both are INT8", ENGINES),
    "R17": (
        "an average runs in INT8 only between DQ and Q; in TensorRT-RTX only with a 3x3 window and stride 1",
        GUIDE,
    ),
    "R18": (
        "a layer without weights runs in INT8 only if all its inputs come from DQ and all its outputs feed Q",
        GUIDE,
    ),
    "R20": (
        "x * f(x) fuses with the upstream convolution, but not with a depthwise one",
        f"{ISSUE}3385",
    ),
    "R21": ("ReLU, Clip, LeakyReLU and GELU fuse with the upstream convolution", CATALOG),
    "R22": ("BatchNormalization after a quantized ConvTranspose does not fuse", f"{ISSUE}3412"),
    "R27": ("a data-movement op runs on INT8 if its inputs are INT8 with one scale", f"{ISSUE}2592"),
    "R28": ("Softmax, normalizations and similar layers run in floating point", OPTIMIZER),
    "R30": ("a Q at a network input and a DQ at a network output are separate kernels", f"{ISSUE}2383"),
    "F1": ("element-wise layers in a row are one kernel", CATALOG),
    "F2": ("a floating-point convolution also fuses with bias, BN, activation and residual Add", CATALOG),
    "F3": (
        "a normalization or softmax written as several nodes is one kernel, also with pairs inside",
        "measured on TensorRT-RTX 1.7.1",
    ),
    "F4": (
        "an element-wise kernel that computes in floating point dequantizes the INT8 tensors that it reads",
        "measured on TensorRT-RTX 1.7.1",
    ),
    "F5": (
        "a weighted layer runs in floating point if its data or weights are FP16 or BF16 between DQ and layer, "
        "then wider",
        "measured on TensorRT-RTX 1.7.1",
    ),
    "F6": (
        "TensorRT 10 and newer: one kernel is generated for neighboring element-wise operators, reductions, "
        "normalizations, softmax and data movement, unless a library kernel lies on a path between them",
        "https://github.com/Eternal-Raiden-Ying/i-vit-srtp/blob/main/layer_info.json",
    ),
    "F7": (
        "TensorRT 10 and newer: Q and DQ run inside such a kernel; Q -> DQ alone is one kernel that stores no INT8",
        "https://github.com/Eternal-Raiden-Ying/i-vit-srtp/blob/main/layer_info.json",
    ),
    "F8": (
        "a Pad of zeros fuses with the convolution downstream; before TensorRT 10 only without a pair between them",
        f"{ISSUE}2592",
    ),
    "F9": ("TensorRT 8: a Q does not move over a Tile", f"{ISSUE}2627"),
    "F10": (
        "a ConvTranspose does not absorb a Q that moves over a Concat or other data movement to it",
        f"{ISSUE}2597",
    ),
    "F11": ("a GELU by Tanh after an INT8 layer is not part of its kernel", "measured on TensorRT-RTX 1.7.1"),
    "F12": (
        "weakly typed: an FP32 network input or output of a floating-point convolution or matrix product is converted "
        "apart",
        ENGINES,
    ),
    "F13": (
        "TensorRT-RTX: element-wise nodes after a floating-point convolution run in its kernel, also x * f(x) and then "
        "an Add, unless a Q, a network output or a generated kernel other than data movement reads the result",
        "measured on TensorRT-RTX 1.7.1",
    ),
    "F14": (
        "TensorRT-RTX: a Q moves over a Pad of zeros and a nearest Resize, but no DQ",
        "measured on TensorRT-RTX 1.7.1",
    ),
    "T1": (
        "TensorRT decides by timing which of two unquantized convolutions takes an Add, whether an Add after SiLU "
        "fuses, whether a MaxPool fuses after a convolution that does not read a network input, and, from TensorRT 10 "
        "on, whether x * f(x) fuses after an INT8 layer",
        f"{ISSUE}3861",
    ),
}
"""Rule number → its text and source."""

PLAIN: Mapping[str, Reason] = {rule: Reason(rule, link, fact) for rule, (fact, link) in RULES.items()}
"""Rule number → the rule as a reason, with its own text."""


def reason(rule: str, text: str = "") -> Reason:
    """A rule as the reason for a kernel, with `text` in place of the rule's own text if given."""
    return Reason(rule, RULES[rule][1], text) if text else PLAIN[rule]
