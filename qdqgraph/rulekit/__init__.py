"""The names that a rule file imports: the rule, the graph that it reads, and its proposals.

    from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety

docs/rulekit.md describes every name. A rule file imports this package, `qdqgraph`, numpy, the standard library and
helper modules beside it, nothing else. Names are loaded on first use: the command line reads options and codes without
onnx.
"""

from typing import TYPE_CHECKING

from ..late import late

if TYPE_CHECKING:
    from ..graph.amax import INT8_BOUND, scale_from_amax
    from ..graph.arguments import argument_name, argument_readers
    from ..graph.blocks import Residual, Side, block, opens_block, residual, residuals, skips_convolution
    from ..graph.bounds import Bounds, bounds
    from ..graph.channels import missing_kernel
    from ..graph.dtypes import BF16, BOOL, FP8, FP16, FP32, FP64, INT8, INT32, INT64, UINT8
    from ..graph.elementwise import activation, inner_inputs, pointwise, self_gate
    from ..graph.graph import Graph, Node, Reader, input_name, key, label
    from ..graph.masks import Mask, mask
    from ..graph.moves import Move, move_at, move_of
    from ..graph.normalizations import Normalizations, normalizations
    from ..graph.operands import REAL, mixed_operands, numpy_type, read_type, type_name
    from ..graph.pair import PER_CHANNEL, Pair, Pairs, bits_lost, is_pair, pairs, required_opset
    from ..graph.quantization import Quantization
    from ..graph.sites import Sites, Use, only_quantized, scales_at, shared_scale_sites, sites
    from ..graph.steps import gates_outside_blocks, limits_activation, splits_activation
    from ..graph.walks import consumers, downstream, upstream
    from ..operators import (
        AVERAGES,
        BINARY,
        CONVOLUTIONS,
        FLOAT_ONLY,
        MOVES_WEIGHTS,
        ONE_TO_ONE,
        PAIRS,
        RANGES,
        SAME_CONSTANT,
        UNBOUNDED,
        VIEWS,
        WEIGHTED,
    )
    from ..proposals.clipping import clip_nodes, clips_negatives
    from ..proposals.folding import fold_integers, fold_moved, store_floats
    from ..proposals.nodes import (
        attributes,
        inner_nodes,
        insert_before,
        make_constant,
        make_dequantize,
        make_node,
        replace,
    )
    from ..proposals.opset import in_opset, node_faults, written_for
    from ..proposals.proposal import Constant, Graft, NodeInput, PlacePair, Proposal, Retype, Rewire, SetPair
    from ..proposals.readers import FLOATS, feeds_int8, keep_exact
    from ..proposals.unpair import remove_pair
    from ..proposals.weights import (
        INT4,
        channel_axis,
        dequantized_weights,
        int4_to_int8,
        is_locked,
        make_symmetric,
        pair_readers,
        reader_axis,
        real_weights,
        refit,
        rescale,
        uint4_to_int4,
        uint8_to_int8,
        why_locked,
    )
    from .finding import Finding, Safety, Severity, Tie
    from .rule import Counterexample, Example, Rule

LATE = {
    "..graph.amax": "INT8_BOUND scale_from_amax",
    "..graph.arguments": "argument_name argument_readers",
    "..graph.blocks": "Residual Side block opens_block residual residuals skips_convolution",
    "..graph.bounds": "Bounds bounds",
    "..graph.channels": "missing_kernel",
    "..graph.dtypes": "BF16 BOOL FP8 FP16 FP32 FP64 INT8 INT32 INT64 UINT8",
    "..graph.elementwise": "activation inner_inputs pointwise self_gate",
    "..graph.graph": "Graph Node Reader input_name key label",
    "..graph.masks": "Mask mask",
    "..graph.moves": "Move move_at move_of",
    "..graph.normalizations": "Normalizations normalizations",
    "..graph.operands": "REAL mixed_operands numpy_type read_type type_name",
    "..graph.pair": "PER_CHANNEL Pair Pairs bits_lost is_pair pairs required_opset",
    "..graph.quantization": "Quantization",
    "..graph.sites": "Sites Use only_quantized scales_at shared_scale_sites sites",
    "..graph.steps": "gates_outside_blocks limits_activation splits_activation",
    "..graph.walks": "consumers downstream upstream",
    "..operators": "AVERAGES BINARY CONVOLUTIONS FLOAT_ONLY MOVES_WEIGHTS ONE_TO_ONE PAIRS RANGES SAME_CONSTANT "
    "UNBOUNDED VIEWS WEIGHTED",
    "..proposals.clipping": "clip_nodes clips_negatives",
    "..proposals.folding": "fold_integers fold_moved store_floats",
    "..proposals.nodes": "attributes inner_nodes insert_before make_constant make_dequantize make_node replace",
    "..proposals.opset": "in_opset node_faults written_for",
    "..proposals.proposal": "Constant Graft NodeInput PlacePair Proposal Retype Rewire SetPair",
    "..proposals.readers": "FLOATS feeds_int8 keep_exact",
    "..proposals.unpair": "remove_pair",
    "..proposals.weights": "INT4 channel_axis dequantized_weights int4_to_int8 is_locked make_symmetric pair_readers "
    "reader_axis real_weights refit rescale uint4_to_int4 uint8_to_int8 why_locked",
    ".finding": "Finding Safety Severity Tie",
    ".rule": "Counterexample Example Rule",
}
"""The names of this package by the module that defines them."""


if not TYPE_CHECKING:  # a type checker would take any name for one that exists
    __getattr__ = late(__name__, LATE)


def __dir__() -> list[str]:
    return list(__all__)


__all__ = [
    "AVERAGES",
    "BF16",
    "BINARY",
    "BOOL",
    "CONVOLUTIONS",
    "FLOATS",
    "FLOAT_ONLY",
    "FP8",
    "FP16",
    "FP32",
    "FP64",
    "INT4",
    "INT8",
    "INT8_BOUND",
    "INT32",
    "INT64",
    "MOVES_WEIGHTS",
    "ONE_TO_ONE",
    "PAIRS",
    "PER_CHANNEL",
    "RANGES",
    "REAL",
    "SAME_CONSTANT",
    "UINT8",
    "UNBOUNDED",
    "VIEWS",
    "WEIGHTED",
    "Bounds",
    "Constant",
    "Counterexample",
    "Example",
    "Finding",
    "Graft",
    "Graph",
    "Mask",
    "Move",
    "Node",
    "NodeInput",
    "Normalizations",
    "Pair",
    "Pairs",
    "PlacePair",
    "Proposal",
    "Quantization",
    "Reader",
    "Residual",
    "Retype",
    "Rewire",
    "Rule",
    "Safety",
    "SetPair",
    "Severity",
    "Side",
    "Sites",
    "Tie",
    "Use",
    "activation",
    "argument_name",
    "argument_readers",
    "attributes",
    "bits_lost",
    "block",
    "bounds",
    "channel_axis",
    "clip_nodes",
    "clips_negatives",
    "consumers",
    "dequantized_weights",
    "downstream",
    "feeds_int8",
    "fold_integers",
    "fold_moved",
    "gates_outside_blocks",
    "in_opset",
    "inner_inputs",
    "inner_nodes",
    "input_name",
    "insert_before",
    "int4_to_int8",
    "is_locked",
    "is_pair",
    "keep_exact",
    "key",
    "label",
    "limits_activation",
    "make_constant",
    "make_dequantize",
    "make_node",
    "make_symmetric",
    "mask",
    "missing_kernel",
    "mixed_operands",
    "move_at",
    "move_of",
    "node_faults",
    "normalizations",
    "numpy_type",
    "only_quantized",
    "opens_block",
    "pair_readers",
    "pairs",
    "pointwise",
    "read_type",
    "reader_axis",
    "real_weights",
    "refit",
    "remove_pair",
    "replace",
    "required_opset",
    "rescale",
    "residual",
    "residuals",
    "scale_from_amax",
    "scales_at",
    "self_gate",
    "shared_scale_sites",
    "sites",
    "skips_convolution",
    "splits_activation",
    "store_floats",
    "type_name",
    "uint4_to_int4",
    "uint8_to_int8",
    "upstream",
    "why_locked",
    "written_for",
]
