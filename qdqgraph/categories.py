"""The categories of operators, which `operators` assigns: what each means, and which ones it implies."""

from __future__ import annotations

from collections.abc import Mapping

CATEGORIES: Mapping[str, str] = {
    "weighted": "Has INT8 kernels with weights: convolutions and matrix products. Operators downstream fuse into them.",
    "convolutions": "A weighted operator into which a residual Add downstream fuses.",
    "moves": "Moves or copies values of one tensor by position only, so Q and DQ commute with it: "
    "Q(f(x)) = f(Q(x)). Resize and Upsample only in nearest mode, Pad only if it adds zeros or copies.",
    "one_to_one": "Q and DQ commute with it whatever its attributes: moves without a condition, and MaxPool.",
    "reshapes": "Changes the shape or the order of a tensor's elements, and keeps all of them.",
    "keeps_all": "Its outputs together contain every element of each input, so a scale that fits them fits the input.",
    "joins": "All its inputs are data, and its output contains all of them.",
    "splits": "All its outputs are data.",
    "views": "Not a kernel in TensorRT: the same memory with another shape or name.",
    "unary": "An element-wise function of one tensor.",
    "binary": "An element-wise function of two tensors.",
    "elementwise": "Computes element by element; TensorRT fuses several in a row into one kernel.",
    "generated": "TensorRT 10 and newer generate its kernel, together with those of its neighbors; no library has one. "
    "Convolutions, matrix products and pools with windows are library kernels.",
    "sums": "Adds tensors: with two operands of one shape, a residual Add.",
    "linear": "With a constant operand, folds into the weighted operator upstream of it.",
    "commutative": "Its two inputs may be exchanged; a pattern matches them in either order.",
    "homogeneous": "Its result is scaled with its first input, f(c * x) = c * f(x), for a positive factor per channel; "
    "bit for bit for a power of two.",
    "averages": "Averages, which do not commute with rounding: it runs in INT8 only between DQ and Q.",
    "epilogues": "An activation that fuses into the kernel of a convolution upstream of it.",
    "float_epilogues": "TensorRT-RTX 1.7.1 computes it in the kernel of a floating-point convolution upstream of it.",
    "gates": "x * f(x) as one operator: it fuses as the same function written as several nodes does.",
    "float_only": "TensorRT has no INT8 kernel for it.",
    "nonnegative": "Its result has no negative values.",
    "probabilities": "Its results are probabilities or their logarithms, and hardly depend on its input near 0 and 1.",
    "unbounded": "Its result grows with its input without limit.",
    "pairs": "Produces or reads the integers of a Q/DQ pair.",
    "recurrent": "Runs over the steps of sequences, whose lengths may be an input.",
    "shaped_by_input": "One of its inputs is the shape of its result.",
    "shapes": "Reads the shape of its input, not its values.",
    "same_constant": "Changes only the shape or type of a constant.",
    "moves_weights": "May move the dequantized weights of a layer: TensorRT-RTX 1.7.1 keeps the INT8 kernel.",
    "random": "Its result differs between runs, even if its inputs are constant; Dropout only in training.",
    "reproducible": "Every implementation computes the same bits: it moves, compares, or rounds once (IEEE 754).",
    "parts": "Splits a tensor, or extracts a part of it.",
    "shaped_by_values": "The shape of its result depends on values.",
    "shaped_as_first": "Its result has the shape of its first input.",
    "shaped_as_both": "Its result has the shape of its two inputs if these are equal.",
    "squares_inside": "Its sums of squares or exponentials can overflow FP16 even if its input and result do not.",
    "reductions": "Computes one value from many: a mean, a sum, a norm, a maximum; of rows, windows or whole channels.",
    "selects": "A reduction whose result is one of the values that it reads.",
    "adds_up": "Sums elements, as in a variance or norm written as several nodes, after the square.",
    "before_root": "May lie between a sum of squares and its root, if its other inputs are constants.",
    "divides": "Divides by an operand, or is infinite at zero.",
    "saturates": "Its constants may be clamped to FP16's range, because no FP16 value exceeds it.",
    "guards": "Its small scalar constant prevents a division by zero.",
}
"""The categories and their meaning; text rules write @ before the name."""

IMPLIED: Mapping[str, frozenset[str]] = {
    "unary": frozenset({"elementwise", "generated"}),
    "binary": frozenset({"elementwise", "generated"}),
    "elementwise": frozenset({"generated"}),
    "moves": frozenset({"generated"}),
    "joins": frozenset({"generated"}),
    "reshapes": frozenset({"moves", "generated", "keeps_all", "before_root", "reproducible", "moves_weights"}),
    "parts": frozenset({"moves_weights"}),
}
"""Category → the categories that it implies."""
