"""Requests of the user: remove the pairs of chosen layers, or store weights as INT8 or float.

A request reads a graph and proposes edits like a rule. `rounds` carries them out, and they become part of the plan.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..errors import ModelError, guess
from ..graph.amax import scale_in
from ..graph.graph import Graph, Reader, key, label
from ..graph.pair import Pair, is_pair, pairs
from ..graph.quantization import Quantization
from ..proposals.clipping import clip_nodes, clips_negatives
from ..proposals.nodes import attributes, insert_before, make_constant, make_node, replace
from ..proposals.proposal import Constant, Graft, Proposal, Rewire, SetPair
from ..proposals.weights import real_weights, stored_integers
from ..rulekit.finding import Finding, Safety, Severity
from .measured import Measured
from .options import WeightFormat
from .solution import Solution


def strip(graph: Graph, nodes: Sequence[str]) -> tuple[Finding, ...]:
    """Returns the pairs at the inputs of chosen nodes, with edits that make those inputs unquantized; and those that
    produce chosen outputs of the graph, which then have the unquantized values.

    Other consumers of these tensors keep their pairs, and so do the consumers of the chosen nodes' outputs. A request
    that cannot be met has no edits, and its help says why.

    Args:
        graph: the graph.
        nodes: globs on the names of nodes and of their outputs, and of outputs of the graph that a pair produces.

    Raises:
        ModelError: a glob matches nothing, or no input of the chosen nodes is quantized.
    """
    paired = {output: pair for output in sorted(graph.outputs) if (pair := _made(graph, output)) is not None}
    for name in nodes:
        hit = any(_named(node, (name,)) for node in graph.nodes() if not is_pair(node))
        if not hit and not fnmatch.filter(paired, name):
            known = [each for node in graph.nodes() if not is_pair(node) for each in _names(node)]
            raise ModelError(f"no node matches {name!r}{guess(name, [*known, *paired])}")
    chosen = [node for node in graph.nodes() if not is_pair(node) and _named(node, nodes)]
    outputs = [o for o in paired if any(fnmatch.fnmatchcase(o, each) for each in nodes)]
    found = (
        *(f for node in chosen for index in range(len(node.inputs)) for f in _stripped(graph, Reader(node, index))),
        *(_output(graph, paired[o], o, {key(node) for node in chosen}) for o in outputs),
    )
    if not found:
        raise ModelError(f"{', '.join(map(label, chosen))}: no input is quantized")
    return found


def readers_at(graph: Graph, findings: Iterable[Finding]) -> tuple[str, ...]:
    """Returns globs for the nodes of the findings: the node itself, or the consumers of the reported pair, an output of
    the graph among them."""
    names: dict[str, None] = {}
    for finding in findings:
        node = graph.producer(finding.place)
        if node is not None and not is_pair(node):
            names[finding.place] = None
        about = [p for p in pairs(graph) if finding.place in (p.tensor, p.site, *map(key, p.nodes))]
        for reader in (r for p in about for d in p.dequantizes for r in graph.readers(key(d)) if r.index >= 0):
            names[key(reader.node)] = None
        names |= dict.fromkeys(name for p in about for d in p.dequantizes if (name := key(d)) in graph.outputs)
    return tuple(glob.escape(name) for name in names)


def store_weights(graph: Graph, wanted: WeightFormat) -> Iterator[Finding]:
    """Yields the weight pairs stored in the other format, with edits that convert them; dequantized values stay equal.

    Args:
        graph: the graph.
        wanted: "int8" stores integers as the input of DequantizeLinear; "float" stores float values as the input of
            QuantizeLinear.
    """
    for pair in pairs(graph):
        own, array = Quantization.of(pair), graph.array(pair.tensor)
        usable = pair.kind == "weight" and own is not None and array is not None and own.fits(array) and pair.agrees
        if not usable or (pair.quantize is not None) != (wanted == "int8") or (wanted == "int8" and pair.pinned):
            continue
        assert own is not None and array is not None
        edit = stored_integers(pair, own.quantize(array)) if wanted == "int8" else _as_floats(graph, pair, own, array)
        what = f"the weights '{pair.tensor}' are stored as {'float' if wanted == 'int8' else 'INT8'}"
        safety = Safety.EXACT if graph.is_reproducible(pair.tensor) else Safety.LOSSY
        yield _finding("weights", pair.key, what, f"store them as {wanted}", (edit,), safety)


def best_scales(graph: Graph, measured: Measured, solution: Solution) -> Iterator[Finding]:
    """Yields the activation pairs whose scale is not the best one of their site, with edits that set it.

    Pairs in a group of the solution get that group's scale later. Integers that enter or leave the network keep their
    scale, and so does a pair without a zero-point, whose integers are UINT8 in ONNX and INT8 in TensorRT (QDQ402).
    """
    for pair in pairs(graph):
        free = pair.tieable and not pair.pinned and solution.group(pair.site) is None
        scale = measured.scale([pair.site]) if free else None
        if scale is None or pair.zero_point is None:
            continue
        assert pair.scale is not None
        scale = scale_in(scale, pair.scale_types)
        if scale == pair.value:
            continue
        new = np.asarray(scale, pair.scale.dtype).reshape(pair.scale.shape)
        what = f"the pair of '{pair.site}' has the scale {pair.value:.6g}; the data give {scale:.6g}"
        edit = SetPair(tuple(map(key, pair.nodes)), Constant.of(new), Constant.of(pair.zero_point), pair.axis)
        yield _finding("calibrate", pair.key, what, "use the measured scale", (edit,), Safety.LOSSY)


def best_weights(graph: Graph, measured: Measured) -> Iterator[Finding]:
    """Yields the weight pairs whose scales are not the best ones for their values before quantization, with edits that
    set them."""
    for pair, edit in measured.weights(graph):
        what = f"the weights '{pair.tensor}' have scales that are not those of the least error"
        yield _finding("calibrate", pair.key, what, "use the scales of the least error", (edit,), Safety.LOSSY)


def _as_floats(graph: Graph, pair: Pair, own: Quantization, array: np.ndarray) -> Graft:
    """A QuantizeLinear in place of the stored integers. It needs their type as a zero-point: without one, its output is
    UINT8, whatever a DequantizeLinear without one reads."""
    real, integers, zero = (f"{pair.tensor}_{name}" for name in ("real", "quantized", "zero"))
    first = pair.dequantizes[0]
    scale, *points = (t.name for t in first.inputs[1:])
    absent = not any(points) and array.dtype != np.uint8
    parameters = [scale, zero] if absent else [scale, *points]
    return replace(
        list(pair.dequantizes),
        [
            *([make_constant(zero, np.zeros(own.scale.shape, array.dtype))] if absent else []),
            make_constant(real, own.dequantize(array)),
            make_node("QuantizeLinear", [real, *parameters], integers, attributes(graph, first, "output_dtype")),
            *(
                make_node("DequantizeLinear", [integers, *parameters], key(d), graph.proto(d).attribute)
                for d in pair.dequantizes
            ),
        ],
    )


def _stripped(graph: Graph, reader: Reader) -> Iterator[Finding]:
    tensor = reader.node.inputs[reader.index].name
    pair = pairs(graph).made(tensor)
    if pair is None or not pair.agrees:
        return
    edits: tuple[Proposal, ...] = ()
    if pair.quantize is not None and clips_negatives(graph, pair):
        nodes = clip_nodes(graph, pair, f"{pair.tensor}_cut")
        edits = () if nodes is None else (insert_before(reader.key, nodes),)
    elif pair.quantize is not None and graph.dtype(pair.tensor) == onnx.TensorProto.INT32:
        real = onnx.helper.tensor_dtype_to_np_dtype(graph.dtype(tensor) or onnx.TensorProto.FLOAT)
        edits = (insert_before(reader.key, [make_node("Cast", [pair.tensor], f"{pair.tensor}_real", to=real)]),)
    elif pair.quantize is not None:
        edits = (Rewire(reader.key, pair.tensor),)
    elif (reals := real_weights(graph, pair)) is not None and pair.kind != "activation":
        edits = (insert_before(reader.key, [make_constant(f"{pair.tensor}_real", reals)]),)
    what = f"input {reader.index} of {label(reader.node)} is '{tensor}', the output of a pair"
    help = "use the unquantized values" if edits else "the file has no unquantized values to use instead"
    yield _finding("strip", f"{key(reader.node)}:{reader.index}", what, help, edits, Safety.LOSSY)


def _made(graph: Graph, output: str) -> Pair | None:
    """The pair whose DequantizeLinear produces an output of the graph; None if none does."""
    pair = pairs(graph).made(output)
    usable = pair is not None and pair.agrees and pair.kind == "activation" and pair.quantize is not None
    return pair if usable else None


def _output(graph: Graph, pair: Pair, output: str, chosen: Collection[str]) -> Finding:
    """An output of the graph that a pair produces, with the edit that gives it the values before the pair. Nodes that
    read it as well keep the pair, under another name; those that are chosen lose it by an edit of their own."""
    what = f"the graph's output '{output}' is the output of a pair"
    clip = clip_nodes(graph, pair, f"{pair.tensor}_cut") if clips_negatives(graph, pair) else []
    inner = [r.node for r in graph.readers(output) if r.index < 0]
    if clip is None or inner:
        why = (
            f"a subgraph of {label(inner[0])} reads it as well"
            if inner
            else "the pair clips each channel, but not along an axis"
        )
        return _finding("strip", output, what, why, (), Safety.LOSSY)
    source, kind = clip[-1].output[0] if clip else pair.tensor, graph.dtype(output)
    to = None if kind is None or kind == graph.dtype(pair.tensor) else onnx.helper.tensor_dtype_to_np_dtype(kind)
    value = make_node("Identity" if to is None else "Cast", [source], output, to=to)
    readers = [r.key for r in graph.readers(output) if key(r.node) not in chosen]
    node, again, kept = graph.node(output), f"{output}_dequantized", []
    if readers:
        kept = [make_node("DequantizeLinear", [t.name for t in node.inputs], again, graph.proto(node).attribute)]
    unread = () if pair.quantize is None or kept else (pair.quantize,)
    edit = replace([node], [*clip, *kept, value], unread=unread)
    edit = dataclasses.replace(edit, rewires=tuple(Rewire(reader, again) for reader in readers))
    return _finding("strip", output, what, "use the unquantized values", (edit,), Safety.LOSSY)


def _finding(name: str, place: str, message: str, help: str, edits: tuple[Proposal, ...], safety: Safety) -> Finding:
    safety = safety if edits else Safety.MANUAL
    return Finding(name, name, Severity.WARNING, safety, place, place, message, help, edits=edits)


def _named(node: gs.Node, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in _names(node) for pattern in globs)


def _names(node: gs.Node) -> list[str]:
    """The name of a node, and of its outputs."""
    return [name for name in (node.name, *(t.name for t in node.outputs)) if name]
