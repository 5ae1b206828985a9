"""The table of operators: what each moves, computes or fuses, with the source of the fact."""

from __future__ import annotations

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with INT8 kernels of their own; what follows them fuses into their epilogue."""

UNARY = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish"}
    | {"Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Erf", "Exp", "Log", "Neg", "Abs", "Sqrt"}
    | {"Sin", "Cos"}
)
"""Element-wise functions of one tensor."""

BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
"""Averages: they do not commute with rounding, so they need DQ in front and Q behind to run in INT8."""

RESHAPES = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
REPEATS = frozenset({"Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"})
ONE_TO_ONE = RESHAPES | REPEATS | {"MaxPool", "Slice", "Gather"}
KEEPS_ALL = RESHAPES | REPEATS | {"Concat"}
"""Moves whose outputs together hold every element of each input, so a scale that fits the output fits the input."""
