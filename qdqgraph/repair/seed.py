"""The first pairs of a float network: those at the inputs of the layers that have INT8 kernels.

Every weighted operator reads its activations through a pair with the measured scale, and its constant weights as INT8
integers with a scale per output channel. The rules place and tie everything else. Source: placement recommendations 1
and 7 of https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..graph.graph import Graph, Reader, key, label
from ..graph.quantization import Quantization
from ..operators import WEIGHTED
from ..proposals.nodes import insert_before, make_constant, make_dequantize
from ..proposals.proposal import Graft, PlacePair, Proposal
from ..proposals.weights import reader_axis, symmetric_scale
from ..rulekit.finding import Finding, Safety, Severity
from .measured import Measured

REALS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def first_pairs(graph: Graph, measured: Measured) -> Iterator[Finding]:
    """Yields the weighted operators of a float graph, with edits that let each read its inputs through pairs.

    A finding without edits is a layer that stays in float; its `help` says why.
    """
    weights: dict[tuple[str, int | None], list[Reader]] = {}
    for node in graph.nodes(*WEIGHTED):
        activations = [i for i in range(2) if not graph.is_constant(node.inputs[i].name)]
        if not activations:
            continue
        reason = _unfit(graph, node, activations, measured)
        edits: list[Proposal] = []
        if not reason:
            edits += [PlacePair(node.inputs[i].name, ((key(node), i),)) for i in activations]
            for index in {0, 1} - set(activations):
                reader = Reader(node, index)
                array = graph.array(node.inputs[index].name)
                assert array is not None
                where = (node.inputs[index].name, reader_axis(graph, reader, array.ndim))
                weights.setdefault(where, []).append(reader)
        yield _finding(node, edits, reason)
    for (tensor, axis), readers in weights.items():
        yield _finding(readers[0].node, [_weight_pair(graph, tensor, axis, readers)], "", tensor)


def _unfit(graph: Graph, node: gs.Node, activations: list[int], measured: Measured) -> str:
    """Returns why a weighted operator stays in float, or ""."""
    for index in activations:
        tensor = node.inputs[index].name
        if measured.scale([tensor]) is None:
            return f"its input '{tensor}' has no measured range"
    for index in {0, 1} - set(activations):
        tensor = node.inputs[index].name
        array = graph.array(tensor)
        if array is None or array.dtype not in (np.float32, np.float16) or not np.isfinite(array).all():
            return f"its weights '{tensor}' cannot be read as finite floating-point values"
        if not np.any(array):
            return f"its weights '{tensor}' are all zero"
    return ""


def _weight_pair(graph: Graph, tensor: str, axis: int | None, readers: list[Reader]) -> Graft:
    array = graph.array(tensor)
    assert array is not None
    scale = symmetric_scale(array, axis)
    integers = Quantization(scale, np.zeros(scale.shape, np.int8), axis or 0).quantize(array)
    stored = f"{tensor}_integers"
    nodes = [
        make_constant(stored, np.maximum(integers, -127)),
        *make_dequantize(f"{tensor}_dequantized", stored, scale, np.zeros((), np.int8), axis or 0),
    ]
    return insert_before(readers[0].key, nodes, *(r.key for r in readers[1:]))


def _finding(node: gs.Node, edits: list[Proposal], reason: str, place: str = "") -> Finding:
    what = f"{label(node)} runs in float" if not place else f"the weights '{place}' are float"
    return Finding(
        "quantize",
        "quantize",
        Severity.WARNING,
        Safety.LOSSY if edits else Safety.MANUAL,
        place or key(node),
        label(node),
        what,
        reason or "quantize what it reads",
        edits=tuple(edits),
    )
