"""The first pairs of a float network: those at the inputs of the layers that have INT8 kernels.

Every weighted operator reads its activations through pairs with their measured scales, and its constant weights as INT8
integers with a scale per output channel. The rules place all other pairs and tie them. Source: placement
recommendations 1 and 7 of
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from ..graph.amax import INT8_BOUND
from ..graph.channels import missing_kernel
from ..graph.graph import Graph, Reader, input_name, key, label
from ..graph.moves import move_of
from ..graph.operands import type_name
from ..graph.quantization import Quantization
from ..model.protos import is_standard, nested
from ..model.protos import key as first_output
from ..operators import RESHAPES, WEIGHTED, is_weighted
from ..proposals.nodes import insert_before, make_constant, make_dequantize
from ..proposals.proposal import Graft, PlacePair, Proposal
from ..proposals.weights import reader_axis, symmetric_scale
from ..rulekit.finding import Finding, Safety, Severity
from .measured import Measured
from .options import Options
from .repair import FloatLayer

CODE = "quantize"
"""The code of the findings: the layers and weights that were float."""
LEFT_OUT = "excluded by --only or --except"
REALS = (TensorProto.FLOAT, TensorProto.FLOAT16)
"""Types of the tensors that get pairs."""
REACH = 64
"""Data-movement ops that are followed upstream of a tensor without a range."""
REASONS = 5
"""Reasons in the message that no layer can be quantized."""


@dataclass(frozen=True)
class Seeds:
    """What a float network starts with.

    Attributes:
        findings: the layers to quantize and their weights, with the edits that place their pairs.
        floats: the weighted layers that stay in floating point.
    """

    findings: tuple[Finding, ...]
    floats: tuple[FloatLayer, ...]


def seeds(graph: Graph, measured: Measured, options: Options) -> Seeds:
    """The first pairs of a float graph.

    Args:
        graph: a graph without pairs, in an opset that has scales per channel (13).
        measured: the scales of its activations.
        options: `only` and `skip` choose the layers, by the names of nodes and of their outputs.
    """
    layers: list[Finding] = []
    floats: list[FloatLayer] = []
    weights: dict[tuple[str, int | None], list[Reader]] = {}
    for node in graph.nodes():
        floats += _in_subgraphs(graph, node)
        if not is_weighted(node.op) or graph.is_constant(key(node)):
            continue
        activations = [i for i in range(2) if input_name(node, i) and not graph.is_constant(input_name(node, i))]
        sources = {i: _with_range(graph, measured, input_name(node, i)) for i in activations}
        reason = _unfit(graph, node, sources) or ("" if _chosen(node, options) else LEFT_OUT)
        if reason:
            floats.append(FloatLayer(label(node), node.op, reason))
            continue
        pairs = [PlacePair(node.inputs[i].name, ((key(node), i),), like=sources[i]) for i in activations]
        layers.append(_finding("layer", key(node), label(node), f"{label(node)} runs in float", pairs))
        for index in {0, 1} - set(activations):
            tensor, array = node.inputs[index].name, graph.array(node.inputs[index].name)
            assert array is not None, "_unfit accepts readable weights only"
            reader = Reader(node, index)
            weights.setdefault((tensor, reader_axis(graph, reader, array.ndim)), []).append(reader)
    for (tensor, axis), readers in weights.items():
        edit = _weight_pair(graph, tensor, axis, readers)
        layers.append(_finding("weights", tensor, label(readers[0].node), f"the weights '{tensor}' are float", [edit]))
    return Seeds(tuple(layers), tuple(floats))


def _chosen(node: gs.Node, options: Options) -> bool:
    return options.selects(label(node), *(t.name for t in node.outputs if t.name))


def _unfit(graph: Graph, node: gs.Node, sources: dict[int, str]) -> str:
    """Returns why a weighted operator stays in float, or "".

    Args:
        graph: the graph.
        node: the operator.
        sources: its activations by input; the tensor that the range of each comes from, "" if there is none.
    """
    if node.op not in WEIGHTED or not is_standard(node):
        own = str(node.op).removeprefix(f"{node.domain}.")
        return f"{node.domain or 'ONNX'}'s operator {own} has no form with Q/DQ pairs"
    for index in (0, 1):
        name = input_name(node, index)
        kind = graph.dtype(name)
        if kind not in REALS:
            return f"its input '{name}' is {'of an unknown type' if kind is None else type_name(kind)}"
    if why := missing_kernel(graph, node):
        return f"the {why}"
    for index, source in sources.items():
        if not source:
            name = node.inputs[index].name
            return f"its input '{name}' has no range: it was not measured, or is zero on all samples"
    for index in {0, 1} - set(sources):
        array = graph.array(node.inputs[index].name)
        if array is None or not array.size or not np.isfinite(array).all():
            return f"its weights '{node.inputs[index].name}' cannot be read as finite values"
    return ""


def _with_range(graph: Graph, measured: Measured, tensor: str) -> str:
    """The tensor whose scale a pair of this tensor gets: itself if it was measured, else the nearest one upstream whose
    values data-movement ops move to it, or the one downstream with all its values; "" if there is none.

    Downstream of a Concat the range is the largest of all its inputs, so each of them must be known.
    """
    found = _upstream(graph, measured, tensor)
    if found:
        return found
    name = tensor
    for _ in range(REACH):
        moved = [r.node for r in graph.readers(name) if r.index == 0 and r.node.op in RESHAPES and is_standard(r.node)]
        if not moved:
            return ""
        name = key(moved[0])
        if measured.scale([name]) is not None:
            return name
    return ""


def _upstream(graph: Graph, measured: Measured, tensor: str) -> str:
    pending, found, seen = [tensor], dict[str, float](), set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if (scale := measured.scale([name])) is not None:
            found[name] = scale
            continue
        node = graph.producer(name)
        move = None if node is None else move_of(graph, node)
        if move is None:
            return ""
        pending += reversed(move[0])
    return max(found, key=found.__getitem__, default="")


def _weight_pair(graph: Graph, tensor: str, axis: int | None, readers: list[Reader]) -> Graft:
    """INT8 integers of constant weights and one DequantizeLinear upstream of their readers."""
    array = graph.array(tensor)
    assert array is not None
    scale = symmetric_scale(array, axis)
    integers = Quantization(scale, np.zeros(scale.shape, np.int8), axis or 0).quantize(array)
    nodes = [
        make_constant(f"{tensor}_integers", np.maximum(integers, -INT8_BOUND).astype(np.int8)),
        *make_dequantize(f"{tensor}_dequantized", f"{tensor}_integers", scale, np.zeros((), np.int8), axis or 0),
    ]
    return insert_before(readers[0].key, nodes, *(reader.key for reader in readers[1:]))


def _finding(name: str, place: str, node: str, message: str, edits: list[PlacePair] | list[Graft]) -> Finding:
    proposals: tuple[Proposal, ...] = tuple(edits)
    help = "quantize what it reads" if name == "layer" else "store INT8 integers with a scale per output channel"
    return Finding(CODE, name, Severity.WARNING, Safety.LOSSY, place, node, message, help, edits=proposals)


def _in_subgraphs(graph: Graph, node: gs.Node) -> Iterator[FloatLayer]:
    """The weighted layers in the branches of an If, or the body of a Loop or Scan."""
    for inner in list(nested(graph.proto(node)))[1:]:
        if is_weighted(inner.op_type):
            reason = f"it is in a subgraph of {label(node)} ({node.op}), and pairs are placed in the main graph only"
            yield FloatLayer(inner.name or f"{inner.op_type}({first_output(inner)})", inner.op_type, reason)


def nothing(floats: Sequence[FloatLayer]) -> str:
    """Returns the message that no layer can be quantized, with a line for each reason."""
    if not floats:
        return "the network has no convolution or matrix product whose inputs depend on its data: nothing to quantize"
    reasons = {layer.reason: layer.layer for layer in floats}
    lines = [f"{name}: {why}" for why, name in reasons.items()]
    return "\n  ".join(["no layer can be quantized:", *lines[:REASONS]])
