"""The table of operators: which move data, compute or fuse; one entry per operator, each with its source.

This is the only such list: graph views, forecasts, FP16 and rules use it, and text rules name its categories
(`ops = "@moves"`). To add an operator, add one entry. Differences between TensorRT generations are in
`targets/*.toml` instead. The table covers ONNX's own domain; rules handle the operators of other domains.

An operator's definition is ONNX's, https://onnx.ai/onnx/operators/; `source` documents how TensorRT treats it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .categories import CATEGORIES, IMPLIED

GUIDE = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html"
)
CATALOG = "https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/fusion-catalog.html"
OPTIMIZER = "https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/quantization/graph_utils.py"
COPIES = "https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/op_types.py"
ENGINES = "https://github.com/NVIDIA/TensorRT/tree/release/11.0/tools/experimental/trt-engine-explorer/examples"
MOVED = "https://github.com/NVIDIA/TensorRT/issues/2592"
RESIZED = "https://github.com/NVIDIA/TensorRT/issues/2976"
GENERIC = "https://github.com/NVIDIA/TensorRT/issues/2572"
GENERATED = "measured on TensorRT-RTX 1.7.1: one kernel with the element-wise operators around it"
FOLLOWS = "measured on TensorRT-RTX 1.7.1: one kernel downstream of a convolution applies it and quantizes its result"
VIEWED = "measured on TensorRT-RTX 1.7.1: between two convolutions it adds no kernel"
ONNX = "https://onnx.ai/onnx/operators/"
HALF = "docs/decisions/0010-fp16-types-follow-the-pairs.md"


ZEROS, NEAREST = "adds zeros or copies", "nearest mode"
"""Conditions under which Pad, and Resize and Upsample, are data-movement ops."""


@dataclass(frozen=True)
class Operator:
    """One operator of ONNX's own domain, with its categories.

    Attributes:
        name: the operator's type.
        named: names of `CATEGORIES`, separated by spaces; those of `IMPLIED` follow from them.
        source: the evidence: a link, or what was measured with which version.
        kernel: what engines call its kernel; empty if they use the operator's own name, and for data-movement ops.
        when: the condition under which it is a data-movement op, checked by `graph.moves`; empty without a condition.
        factors: inputs that are factors of the result: their relative error is that of the result.
        range: the interval that contains every result, whatever the input; None if there is none.
        indexes: inputs whose values are indexes, of rows, elements or classes.
        arguments: inputs that say how to compute rather than what with: a shape, sizes, scales, axes, pads, a count.

    Raises:
        ValueError: there is no such category.
    """

    name: str
    named: str
    source: str
    kernel: str = ""
    when: str = ""
    factors: tuple[int, ...] = ()
    range: tuple[float, float] | None = None
    indexes: tuple[int, ...] = ()
    arguments: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if unknown := set(self.named.split()) - set(CATEGORIES):
            raise ValueError(f"{self.name}: there is no category {min(unknown)!r}")

    @property
    def categories(self) -> frozenset[str]:
        """All categories of the operator."""
        named = frozenset(self.named.split())
        found = named.union(*(IMPLIED.get(category, ()) for category in named))
        return found | {"one_to_one"} if "moves" in found and not self.when else found


OPERATORS: tuple[Operator, ...] = (
    # Convolutions and matrix products
    Operator("Conv", "weighted convolutions", GUIDE, "Convolution", factors=(1,)),
    Operator("ConvTranspose", "weighted convolutions", GUIDE, "Deconvolution", factors=(1,)),
    Operator("Gemm", "weighted", GUIDE, "MatrixMultiply", factors=(0, 1)),
    Operator("MatMul", "weighted", GUIDE, "MatrixMultiply", factors=(0, 1)),
    # Data movement
    Operator("Reshape", "reshapes views same_constant shaped_by_input", f"{COPIES}, {VIEWED}", arguments=(1,)),
    Operator("Flatten", "reshapes views same_constant", f"{COPIES}, {VIEWED}"),
    Operator("Squeeze", "reshapes views same_constant", f"{COPIES}, {VIEWED}", arguments=(1,)),
    Operator("Unsqueeze", "reshapes views same_constant", f"{MOVED}, {VIEWED}", arguments=(1,)),
    Operator("Identity", "reshapes views same_constant shaped_as_first unbounded homogeneous", f"{MOVED}, {VIEWED}"),
    Operator("Transpose", "reshapes", COPIES),
    Operator("Split", "moves keeps_all splits parts reproducible", COPIES, arguments=(1,)),
    Operator("Expand", "moves keeps_all reproducible moves_weights shaped_by_input", COPIES, arguments=(1,)),
    Operator("Tile", "moves keeps_all reproducible moves_weights", COPIES, arguments=(1,)),
    Operator("DepthToSpace", "moves keeps_all reproducible", MOVED),
    Operator("SpaceToDepth", "moves keeps_all reproducible", MOVED),
    Operator("Slice", "moves parts reproducible", COPIES, arguments=(1, 2, 3, 4)),
    Operator("Gather", "moves reproducible", COPIES, indexes=(1,)),
    Operator("Pad", "moves reproducible", MOVED, when=ZEROS, arguments=(1, 3)),
    Operator("Resize", "moves", RESIZED, "Resize", when=NEAREST, arguments=(1, 2, 3)),
    Operator("Upsample", "moves", RESIZED, "Resize", when=NEAREST, arguments=(1,)),
    Operator("MaxPool", "one_to_one homogeneous", f"{GUIDE}, {ENGINES}", "Pooling"),
    Operator(
        "Concat",
        "joins keeps_all reproducible",
        f"{OPTIMIZER}, https://github.com/NVIDIA/TensorRT/issues/2597",
        "Concat",
    ),
    Operator("Dropout", "views random", VIEWED),
    Operator("Cast", "generated same_constant reproducible", ONNX),
    # Element-wise functions of one tensor
    Operator(
        "Relu",
        "unary epilogues nonnegative unbounded shaped_as_first reproducible homogeneous float_epilogues",
        CATALOG,
    ),
    Operator("LeakyRelu", "unary epilogues shaped_as_first homogeneous float_epilogues", CATALOG),
    Operator(
        "Clip", "unary epilogues shaped_as_first before_root saturates guards float_epilogues", f"{CATALOG}, {HALF}"
    ),
    Operator("Gelu", "unary epilogues float_epilogues", CATALOG),
    Operator("PRelu", "unary epilogues homogeneous", FOLLOWS, factors=(1,)),
    Operator("ThresholdedRelu", "unary", CATALOG),
    Operator("Elu", "unary float_epilogues", CATALOG),
    Operator("Selu", "unary", CATALOG),
    Operator("Celu", "unary float_epilogues", CATALOG),
    Operator("Mish", "unary gates", f"{CATALOG}, {GENERIC}"),
    Operator("Swish", "unary gates float_epilogues", f"{CATALOG}, {GENERIC}"),
    Operator("Sigmoid", "unary nonnegative probabilities shaped_as_first float_epilogues", CATALOG, range=(0.0, 1.0)),
    Operator(
        "HardSigmoid", "unary nonnegative probabilities shaped_as_first float_epilogues", CATALOG, range=(0.0, 1.0)
    ),
    Operator("HardSwish", "unary gates shaped_as_first float_epilogues", f"{CATALOG}, {GENERIC}"),
    Operator("Tanh", "unary shaped_as_first float_epilogues", CATALOG, range=(-1.0, 1.0)),
    Operator("Softplus", "unary nonnegative", CATALOG),
    Operator("Softsign", "unary float_epilogues", CATALOG, range=(-1.0, 1.0)),
    Operator("Erf", "unary shaped_as_first float_epilogues", CATALOG, range=(-1.0, 1.0)),
    Operator("Exp", "unary nonnegative shaped_as_first float_epilogues", CATALOG),
    Operator("Log", "unary divides float_epilogues", f"{CATALOG}, {HALF}"),
    Operator("Neg", "unary unbounded shaped_as_first reproducible float_epilogues", CATALOG),
    Operator("Abs", "unary nonnegative shaped_as_first reproducible float_epilogues", CATALOG),
    Operator("Sqrt", "unary nonnegative shaped_as_first before_root float_epilogues", f"{CATALOG}, {HALF}"),
    Operator("Sin", "unary", CATALOG, range=(-1.0, 1.0)),
    Operator("Cos", "unary", CATALOG, range=(-1.0, 1.0)),
    Operator("Reciprocal", "generated before_root divides float_epilogues", HALF),
    # Element-wise functions of several tensors
    Operator(
        "Add",
        "binary sums linear commutative unbounded shaped_as_both before_root guards reproducible float_epilogues",
        f"{CATALOG}, {HALF}",
    ),
    Operator("Sub", "binary linear unbounded shaped_as_both reproducible float_epilogues", CATALOG),
    Operator(
        "Mul",
        "binary linear commutative unbounded shaped_as_both before_root reproducible float_epilogues",
        f"{CATALOG}, {HALF}",
        factors=(0, 1),
    ),
    Operator(
        "Div",
        "binary linear unbounded shaped_as_both before_root divides reproducible float_epilogues",
        f"{CATALOG}, {HALF}",
        factors=(0, 1),
    ),
    Operator("Max", "binary before_root saturates guards reproducible float_epilogues", f"{CATALOG}, {HALF}"),
    Operator("Min", "binary saturates reproducible float_epilogues", f"{CATALOG}, {HALF}"),
    Operator("Pow", "binary before_root divides float_epilogues", f"{CATALOG}, {HALF}", factors=(1,)),
    Operator("Sum", "elementwise sums", CATALOG),
    Operator("Where", "elementwise reproducible", CATALOG),
    Operator("Not", "elementwise reproducible", CATALOG),
    Operator("Equal", "elementwise reproducible", CATALOG),
    Operator("Greater", "elementwise reproducible", CATALOG),
    Operator("Less", "elementwise reproducible", CATALOG),
    # Other functions and comparisons, element by element
    Operator("Ceil", "generated", GENERATED),
    Operator("Floor", "generated", GENERATED),
    Operator("Round", "generated", GENERATED),
    Operator("Sign", "generated", GENERATED),
    Operator("Shrink", "generated", GENERATED),
    Operator("Mod", "generated", GENERATED),
    Operator("Trilu", "generated", GENERATED),
    Operator("Tan", "generated", GENERATED),
    Operator("Asin", "generated", GENERATED),
    Operator("Acos", "generated", GENERATED),
    Operator("Atan", "generated", GENERATED),
    Operator("Sinh", "generated", GENERATED),
    Operator("Cosh", "generated", GENERATED),
    Operator("Asinh", "generated", GENERATED),
    Operator("Acosh", "generated", GENERATED),
    Operator("Atanh", "generated", GENERATED),
    Operator("IsNaN", "generated", GENERATED),
    Operator("IsInf", "generated", GENERATED),
    Operator("And", "generated", GENERATED),
    Operator("Or", "generated", GENERATED),
    Operator("Xor", "generated", GENERATED),
    Operator("GreaterOrEqual", "generated", GENERATED),
    Operator("LessOrEqual", "generated", GENERATED),
    # Pools and reductions
    Operator("AveragePool", "averages reductions homogeneous", GUIDE, "Pooling"),
    Operator("GlobalAveragePool", "generated averages adds_up reductions homogeneous", f"{GUIDE}, {HALF}", "Pooling"),
    Operator("GlobalMaxPool", "generated reductions selects homogeneous", ENGINES, "Pooling"),
    Operator("ReduceMean", "generated averages adds_up reductions", f"{GUIDE}, {HALF}", "Reduce", arguments=(1,)),
    Operator("ReduceSum", "generated float_only adds_up reductions", f"{OPTIMIZER}, {HALF}", arguments=(1,)),
    Operator("ReduceMax", "generated float_only reproducible reductions selects", OPTIMIZER, arguments=(1,)),
    Operator("ReduceMin", "generated reductions selects", ONNX, arguments=(1,)),
    Operator("ReduceL1", "generated reductions", ONNX, arguments=(1,)),
    Operator("ReduceLogSum", "generated reductions", ONNX, arguments=(1,)),
    Operator("ReduceProd", "generated float_only", OPTIMIZER, arguments=(1,)),
    Operator("ReduceL2", "generated float_only squares_inside reductions", f"{OPTIMIZER}, {HALF}", arguments=(1,)),
    Operator("ReduceSumSquare", "generated squares_inside reductions", HALF, arguments=(1,)),
    Operator("ReduceLogSumExp", "generated squares_inside reductions", HALF, arguments=(1,)),
    Operator("LpPool", "squares_inside reductions", HALF),
    Operator("GlobalLpPool", "squares_inside reductions", HALF),
    # Normalizations, and other operators that run in floating point
    Operator("BatchNormalization", "generated unbounded", CATALOG, factors=(1, 4)),
    Operator("Softmax", "generated float_only nonnegative probabilities shaped_as_first", OPTIMIZER, range=(0.0, 1.0)),
    Operator("LogSoftmax", "generated float_only probabilities", OPTIMIZER),
    Operator("LayerNormalization", "generated float_only", f"{OPTIMIZER}, {HALF}", factors=(1,)),
    Operator("InstanceNormalization", "float_only", f"{OPTIMIZER}, {HALF}", factors=(1,)),
    Operator("GroupNormalization", "float_only", f"{OPTIMIZER}, {HALF}", factors=(1,)),
    Operator("RMSNormalization", "generated float_only", OPTIMIZER),
    Operator("LpNormalization", "generated float_only squares_inside", f"{OPTIMIZER}, {HALF}"),
    Operator("MeanVarianceNormalization", "squares_inside", HALF),
    Operator("CumSum", "float_only", OPTIMIZER, arguments=(1,)),
    Operator("TopK", "float_only", OPTIMIZER, arguments=(1,)),
    Operator("ArgMax", "float_only", OPTIMIZER),
    Operator("Einsum", "float_only", OPTIMIZER),
    Operator("NonMaxSuppression", "float_only shaped_by_values", OPTIMIZER, arguments=(2, 3, 4)),
    Operator("GridSample", "generated float_only", OPTIMIZER),
    Operator("ScatterND", "float_only", OPTIMIZER, indexes=(1,)),
    Operator("GatherND", "generated float_only", OPTIMIZER, indexes=(1,)),
    Operator("RoiAlign", "float_only", OPTIMIZER),
    Operator("LSTM", "float_only recurrent", OPTIMIZER),
    Operator("GRU", "float_only recurrent", OPTIMIZER),
    # Pairs and shapes
    Operator("QuantizeLinear", "pairs shaped_as_first reproducible", GUIDE),
    Operator("DequantizeLinear", "pairs shaped_as_first reproducible", GUIDE),
    Operator("Shape", "shapes reproducible", ONNX),
    Operator("Size", "shapes reproducible", ONNX),
    # Operators on indexes and shapes
    Operator("GatherElements", "generated", ONNX, indexes=(1,)),
    Operator("ScatterElements", "", ONNX, indexes=(1,)),
    Operator("OneHot", "", ONNX, indexes=(0,), arguments=(1,)),
    Operator("Range", "", ONNX, arguments=(0, 1, 2)),
    Operator("RNN", "recurrent", ONNX),
    # Selections
    Operator("NonZero", "shaped_by_values", ONNX),
    Operator("Unique", "shaped_by_values", ONNX),
    Operator("Compress", "shaped_by_values", ONNX),
    # Constants and random values
    Operator("Constant", "reproducible", ONNX),
    Operator("ConstantOfShape", "reproducible shaped_by_input", ONNX, arguments=(0,)),
    Operator("RandomNormal", "random", ONNX),
    Operator("RandomNormalLike", "random", ONNX),
    Operator("RandomUniform", "random", ONNX),
    Operator("RandomUniformLike", "random", ONNX),
    Operator("Multinomial", "random", ONNX),
    Operator("Bernoulli", "random", ONNX),
)


def members(category: str) -> frozenset[str]:
    """The operators of a category, all of ONNX's own domain.

    Raises:
        KeyError: there is no such category.
    """
    return _MEMBERS[category]


_FOUND = {o.name: o.categories for o in OPERATORS}
_MEMBERS: Mapping[str, frozenset[str]] = {
    category: frozenset(name for name, found in _FOUND.items() if category in found) for category in CATEGORIES
}

WEIGHTED, CONVOLUTIONS = members("weighted"), members("convolutions")
MOVES, ONE_TO_ONE, JOINS, SPLITS = members("moves"), members("one_to_one"), members("joins"), members("splits")
RESHAPES, KEEPS_ALL, VIEWS = members("reshapes"), members("keeps_all"), members("views")
UNARY, BINARY, ELEMENTWISE = members("unary"), members("binary"), members("elementwise")
SUMS, LINEAR, COMMUTATIVE = members("sums"), members("linear"), members("commutative")
AVERAGES, EPILOGUES, FLOAT_ONLY = members("averages"), members("epilogues"), members("float_only")
HOMOGENEOUS = members("homogeneous")
GATES = members("gates")
NONNEGATIVE, UNBOUNDED, PROBABILITIES = members("nonnegative"), members("unbounded"), members("probabilities")
RECURRENT, SHAPED_BY_INPUT = members("recurrent"), members("shaped_by_input")
SHAPED_BY_VALUES = members("shaped_by_values")
PAIRS, SHAPES = members("pairs"), members("shapes")
SAME_CONSTANT, PARTS, MOVES_WEIGHTS = members("same_constant"), members("parts"), members("moves_weights")
SHAPED_AS_FIRST, SHAPED_AS_BOTH = members("shaped_as_first"), members("shaped_as_both")
SQUARES_INSIDE, ADDS_UP, BEFORE_ROOT = members("squares_inside"), members("adds_up"), members("before_root")
RANDOM, REPRODUCIBLE = members("random"), members("reproducible")
DIVIDES, SATURATES, GUARDS = members("divides"), members("saturates"), members("guards")
REDUCTIONS, SELECTS = members("reductions"), members("selects")

MOVES_WHEN: Mapping[str, str] = {o.name: o.when for o in OPERATORS if o.when}
"""Operator → the condition under which it is a data-movement op, for those that have one."""
KERNELS: Mapping[str, str] = {o.name: o.kernel for o in OPERATORS if o.kernel}
"""Operator → what engines call its kernel."""
RANGES: Mapping[str, tuple[float, float]] = {o.name: o.range for o in OPERATORS if o.range is not None}
"""Operator → the interval that contains all its results."""
FACTORS: Mapping[str, tuple[int, ...]] = {o.name: o.factors for o in OPERATORS if o.factors}
"""Operator → inputs whose relative error is the result's. An added constant is not one: if it underflows to zero, the
sum hardly changes."""
INDEXES: Mapping[str, tuple[int, ...]] = {o.name: o.indexes for o in OPERATORS if o.indexes}
"""Operator → inputs whose values are indexes: into the first input, or, for OneHot, of classes."""
ARGUMENTS: Mapping[str, tuple[int, ...]] = {o.name: o.arguments for o in OPERATORS if o.arguments}
"""Operator → inputs that say how to compute rather than what with: a rounded value there changes the shape of the
result, or what it is made of."""


def is_weighted(name: str) -> bool:
    """Whether an operator of any domain is a convolution or matrix product, by its name.

    Runtimes name their variants after the operators of `WEIGHTED`: ConvInteger, QLinearConv, QGemm, FusedConv,
    MatMulIntegerToFloat, MatMulNBits. Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """
    return any(operator in name for operator in WEIGHTED)
