"""`LayerRow`: what quantization costs at one layer, with what may cause it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from ..calibration.layers.errors import LayerError, LayerErrors, layer_errors
from ..calibration.layers.twin import activation_pair, layers, twin
from ..calibration.statistics.floating import FloatModel
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..errors import ModelError, counted
from ..graph.graph import Graph, key, label
from ..graph.pair import pairs
from ..log import Progress, log_step
from ..repair.solution import Solution
from ..rulekit.finding import Finding
from .groups import SiteGroup


@dataclass(frozen=True)
class QuantizedInput:
    """A tensor that a layer reads through a Q/DQ pair.

    Attributes:
        site: the tensor that the pair quantizes.
        scale: ONNX's scale, in the units of the tensor; None if it is per-channel or not constant.
        clipped: the share of values, 0 to 1, whose nearest integer is beyond the range of the pair's integers; None
            if unknown (FP8, 4-bit integers, computed scales).
        group: the sites that share its scale, or will after the repair, by their anchor or first site.
    """

    site: str
    scale: float | None
    clipped: float | None
    group: SiteGroup


@dataclass(frozen=True)
class Scores:
    """The score of a task, higher is better, of the float network and of the Q/DQ graph."""

    unquantized: float
    quantized: float

    @property
    def difference(self) -> float:
        """What quantization changes; negative for a loss."""
        return self.quantized - self.unquantized


@dataclass(frozen=True)
class LayerRow:
    """The error of a layer that reads activations through Q/DQ pairs.

    Attributes:
        layer: its output tensor.
        node: its node's name, else its operator and output.
        op: its operator.
        alone: the error if its inputs are those of the float network, rounded by its own pairs.
        accumulated: the error in the Q/DQ graph, where the errors of all layers upstream have accumulated.
        inputs: the tensors that it reads through a pair.
        findings: codes of the findings at the layer or at a tensor that it reads, sorted.
        bytes: bytes of activations that its kernel reads and writes per run, by the forecast; layers of one kernel have
            the same bytes; 0 if unknown.
    """

    layer: str
    node: str
    op: str
    alone: LayerError
    accumulated: LayerError
    inputs: tuple[QuantizedInput, ...]
    findings: tuple[str, ...] = ()
    bytes: int = 0


@dataclass(frozen=True)
class Accuracy:
    """The error of every layer of a Q/DQ graph against its float network.

    Attributes:
        layers: the layers, the lowest SQNR alone first; layers with values that are not finite before all others.
        skipped: layers that could not be compared, by output tensor, with the reason.
        samples: the number of samples.
        data: where the samples come from.
        notes: what else to know, one sentence each.
        scores: the score of the task; None if it was not asked for.
        model: `digest` of the Q/DQ model.
    """

    layers: tuple[LayerRow, ...]
    skipped: Mapping[str, str]
    samples: int
    data: str
    notes: tuple[str, ...] = ()
    scores: Scores | None = None
    model: str = ""

    def __repr__(self) -> str:
        first = f", worst {self.layers[0].layer!r} with {self.layers[0].alone.sqnr:.1f} dB" if self.layers else ""
        return f"<Accuracy: {counted(len(self.layers), 'layer')} on {counted(self.samples, 'sample')}{first}>"


def accuracy(
    graph: Graph,
    network: FloatModel,
    feeds: Iterable[Mapping[str, np.ndarray]],
    data: str,
    groups: Solution,
    *,
    findings: Iterable[Finding] = (),
    costs: Mapping[str, int] | None = None,
    provider: str = "cpu",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = log_step,
) -> Accuracy:
    """Compares each layer of a Q/DQ graph with its float network.

    Args:
        graph: the Q/DQ graph, without local functions.
        network: its float network.
        feeds: the samples.
        data: where they come from.
        groups: the groups of its sites.
        findings: the findings of the graph.
        costs: bytes per run of the kernel of each node, by the node's label.
        provider: "cpu" or "cuda".
        memory: the limit for the peak resident memory of the process, in bytes.
        progress: called with one line after each sample.

    Raises:
        ModelError: no layer can be compared, onnxruntime is missing, or it cannot run the network on the samples, or
            one node alone needs more memory.
    """
    chosen = layers(graph)
    if not chosen:
        raise ModelError("no node of the model reads an activation through a Q/DQ pair: there is no error to measure")
    both = twin(graph, network, chosen, accumulated=True, clipping=True)
    if not both.alone:
        name, reason = next(iter(both.skipped.items()))
        raise ModelError(f"none of the {len(chosen)} layers that read a Q/DQ pair can be compared; '{name}': {reason}")
    errors = layer_errors(both, feeds, network.folder, provider=provider, memory=memory, progress=progress)
    places = tuple((finding.code, _places(finding)) for finding in findings)
    rows = [_row(graph, node, errors, groups, places, costs or {}) for node in chosen if key(node) in errors.alone]
    return Accuracy(tuple(sorted(rows, key=_order)), both.skipped, errors.samples, data)


def _row(
    graph: Graph,
    node: gs.Node,
    errors: LayerErrors,
    groups: Solution,
    places: Iterable[tuple[str, frozenset[str]]],
    costs: Mapping[str, int],
) -> LayerRow:
    name, mine = key(node), frozenset(_around(graph, node))
    codes = sorted({code for code, them in places if mine & them})
    alone, accumulated = errors.alone[name], errors.accumulated[name]
    inputs = tuple(_inputs(graph, node, errors.clipped, groups))
    return LayerRow(name, label(node), node.op, alone, accumulated, inputs, tuple(codes), costs.get(label(node), 0))


def _inputs(graph: Graph, node: gs.Node, clipped: Mapping[str, float], groups: Solution) -> Iterator[QuantizedInput]:
    for name in dict.fromkeys(t.name for t in node.inputs):
        pair = activation_pair(graph, name)
        if pair is not None:
            scale = pair.value if pair.per_tensor else None
            yield QuantizedInput(pair.site, scale, clipped.get(name), SiteGroup.of(groups, pair.site))


def _around(graph: Graph, node: gs.Node) -> Iterator[str]:
    """The tensors at which a finding concerns a layer: its outputs, its inputs, and what their pairs quantize."""
    for tensor in (*node.outputs, *node.inputs):
        if tensor.name:
            yield tensor.name
            pair = pairs(graph).made(tensor.name)
            yield from (pair.tensor, pair.site) if pair is not None else ()


def _places(finding: Finding) -> frozenset[str]:
    return frozenset((finding.place, *(finding.tie.sites if finding.tie is not None else ())))


def _order(row: LayerRow) -> tuple[float, float]:
    """Worst first: not finite, then the lowest SQNR alone, then the lowest accumulated one."""
    alone, accumulated = (-math.inf if math.isnan(e.sqnr) else e.sqnr for e in (row.alone, row.accumulated))
    return alone, accumulated
