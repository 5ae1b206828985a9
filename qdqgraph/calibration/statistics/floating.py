"""`float_model`: the network that a Q/DQ graph quantizes, with every pair bypassed.

A pair of an activation becomes a connection. Weights keep the float constant that a QuantizeLinear reads; stored
integers become a float constant with the name of the DequantizeLinear's output. Tensors keep their names, so a site has
one name in both models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import helper, numpy_helper

from ...errors import ModelError
from ...graph.graph import Graph, key
from ...graph.pair import Pair, pairs
from ...graph.quantization import Quantization
from ...model.constants import array_of
from ...model.content import content
from ...model.corrected import uncorrected
from ...model.protos import fresh, names, reads, refill, rename_inputs, subgraphs
from ...model.protos import key as made
from ...model.writing.spill import tensor_of
from ...proposals.clipping import clips_negatives
from ...proposals.weights import dequantized_weights
from ..inputs import model_inputs

PAIR_DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Domains of QuantizeLinear and DequantizeLinear."""
CONSTANT_INITIALIZERS = 4
"""The first IR version whose initializers need not be inputs."""
INTEGER_OPERATORS = (
    "QLinear",
    "QGemm",
    "QAttention",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantize",
)
"""How the names of operators that compute with quantized integers begin, in ONNX and onnxruntime."""
RELU6 = 6.0
"""The upper limit of the Clip that exporters fold into a pair's range."""

WeightSource = Callable[[np.ndarray, np.ndarray], np.ndarray | None]
"""(dequantized weights, one integer step for each) → the weights before quantization in the same shape; None if
unknown."""


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A network without quantization.

    Attributes:
        model: the network; the original model is not changed.
        folder: where external data lie.
        wires: the tensor of this model that has the values of an output of a Q or DQ of the original model.
        weights: the names of the constants that were stored as integers, and are float constants here.
        unmatched: those of `weights` that the reference does not contain; empty without a reference.
    """

    model: onnx.ModelProto
    folder: Path
    wires: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """sha256 of what determines the values of its tensors (see `model.content`)."""
        return content(self.model, self.folder)

    def matched(self) -> Mapping[str, np.ndarray]:
        """The values before quantization that a reference gave, by the names of the constants; meaningful only if there
        was a reference."""
        wanted = set(self.weights) - set(self.unmatched)
        return _Values({t.name: t for t in self.model.graph.initializer if t.name in wanted}, self.folder)

    def tensor(self, name: str) -> str:
        """The tensor of this model with the values of a tensor of the original model."""
        return self.wires.get(name, name)


class _Values(Mapping[str, np.ndarray]):
    """The values of tensors, read when they are asked for."""

    def __init__(self, tensors: Mapping[str, onnx.TensorProto], folder: Path) -> None:
        self._tensors, self._folder = tensors, folder

    def __getitem__(self, name: str) -> np.ndarray:
        array = array_of(self._tensors[name], self._folder)
        if array is None:
            raise ModelError(f"the values of {name!r} cannot be read: its external data are gone or changed")
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def float_model(
    model: onnx.ModelProto,
    folder: Path,
    *,
    reference: onnx.ModelProto | None = None,
    reference_folder: Path | None = None,
    integers: bool = False,
) -> FloatModel:
    """The network without quantization.

    A pair whose range starts at zero, after a tensor that may be negative, replaces a Relu, or a Clip to [0, 6] if its
    range ends there; that operator is restored.

    Args:
        model: a Q/DQ graph, or a network without Q/DQ.
        folder: where its external data lie.
        reference: the network before quantization: its weights replace dequantized ones if they are the same up to
            rounding and saturation (see `references.Weights`).
        reference_folder: where external data of the reference lie; `folder` by default.
        integers: stored integers stay, with their DequantizeLinear: the network takes the memory of the file, and not
            four times as much. Without a reference only.

    Raises:
        ModelError: the model is not valid, computes with integers (QLinearConv, ConvInteger, dynamic quantization), or
            moves integers between Q and DQ; `qdqgraph fix` rewrites these.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    model = uncorrected(model, folder)
    source: WeightSource | None = None
    if reference is not None:
        from .references import Weights

        source = Weights(reference, reference_folder or folder).find
    return _Bypass(Graph(model, folder), source, integers=integers).run()


class _Bypass:
    def __init__(self, graph: Graph, source: WeightSource | None, *, integers: bool) -> None:
        self.graph, self.source, self.integers = graph, source, integers
        self.taken = set(names(graph.model.graph))
        self.quantized: dict[str, str] = {}
        """The output of each QuantizeLinear → the tensor that has its values."""
        self.wires: dict[str, str] = {}
        """The output of each DequantizeLinear of a pair → the tensor that has its values."""
        self.kept: set[str] = set()
        """Keys of `wires` that a node still produces: graph outputs, and results of another type."""
        self.constants: dict[str, onnx.TensorProto] = {}
        self.weights: list[str] = []
        self.unmatched: list[str] = []

    def run(self) -> FloatModel:
        restored: dict[str, onnx.NodeProto] = {}
        for pair in pairs(self.graph):
            if pair.quantize is None:
                if not self.integers:
                    self._dequantize(pair)
            elif (clip := self._clip(pair)) is not None:
                restored[key(pair.quantize)] = clip
        new = onnx.ModelProto()
        new.CopyFrom(self.graph.model)
        new.ir_version = max(new.ir_version, CONSTANT_INITIALIZERS)
        refill(new.graph.input, model_inputs(new))
        self._bypass(new.graph, restored)
        for name in self.wires:
            self.wires[name] = self._end(name)
        wires = {name: end for name, end in self.wires.items() if name not in self.kept}
        for node in new.graph.node:
            rename_inputs(node, wires)
        self._name_clipped(new.graph, restored)
        new.graph.initializer.extend(self.constants.values())
        sweep(new.graph)
        self._refuse_integers(new.graph)
        used = {tensor.name for tensor in new.graph.initializer}
        wires = self.wires | {name: self._end(source) for name, source in self.quantized.items()}
        weights, unmatched = (tuple(n for n in found if n in used) for found in (self.weights, self.unmatched))
        return FloatModel(new, self.graph.folder, wires, weights, unmatched)

    def _dequantize(self, pair: Pair) -> None:
        """Records the float constants of stored integers."""
        array = dequantized_weights(self.graph, pair) if self.graph.is_constant(pair.tensor) else None
        if array is None:
            return  # its DequantizeLinear stays
        true = None if self.source is None else self.source(array, steps_of(pair, array))
        for name in map(key, pair.dequantizes):
            self.weights.append(name)
            if self.source is not None and true is None:
                self.unmatched.append(name)
            kind = self.graph.dtype(name)  # from opset 23 on, it may differ from the type of the scale
            values = array if true is None else true
            wanted = array.dtype if kind is None else helper.tensor_dtype_to_np_dtype(kind)
            self.constants[name] = tensor_of(np.ascontiguousarray(values.astype(wanted)), name)

    def _clip(self, pair: Pair) -> onnx.NodeProto | None:
        """As `replaced_activation`, with the constants that it reads."""
        found = replaced_activation(self.graph, pair, self.taken)
        if found is None:
            return None
        node, constants = found
        self.constants.update({tensor.name: tensor for tensor in constants})
        return node

    def _bypass(self, graph: onnx.GraphProto, restored: Mapping[str, onnx.NodeProto]) -> None:
        """Removes the DequantizeLinears of a graph and of its subgraphs. What reads a QuantizeLinear then is refused
        later, and the others are swept."""
        outputs = {o.name for o in graph.output}
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            for inner in subgraphs(node):
                self._bypass(inner, {})
            source = self.quantized.get(node.input[0]) if node.input else None
            if _is(node, "QuantizeLinear"):
                clip = restored.get(node.output[0])
                nodes += [node] if clip is None else [clip, node]
                self.quantized[node.output[0]] = node.input[0] if clip is None else clip.output[0]
            elif _is(node, "DequantizeLinear") and source is not None:
                nodes += self._wire(node.output[0], source, outputs)
            elif made(node) not in self.constants:
                nodes.append(node)
        refill(graph.node, nodes)

    def _wire(self, name: str, source: str, outputs: set[str]) -> list[onnx.NodeProto]:
        """Records what has the values of a DequantizeLinear; returns the node that must still produce its output."""
        self.wires[name] = source
        given, wanted = self.graph.dtype(source), self.graph.dtype(name)
        if None not in (given, wanted) and given != wanted:
            node = helper.make_node("Cast", [source], [name], to=wanted)
        elif name in outputs:
            node = helper.make_node("Identity", [source], [name])
        else:
            return []
        self.kept.add(name)
        return [node]

    def _name_clipped(self, graph: onnx.GraphProto, restored: Mapping[str, onnx.NodeProto]) -> None:
        """Gives the results of restored operators the names of their sites, and what they clip other names; a graph
        output keeps its own."""
        names: dict[str, str] = {}
        for clip in restored.values():
            site, clipped = clip.input[0], clip.output[0]
            if site in self.graph.outputs:
                continue
            if site not in names:
                names[site], names[clipped] = fresh(f"{site}_unclipped", self.taken), site
        for node in graph.node:
            rename_inputs(node, names)
            for index, name in enumerate(node.output):
                node.output[index] = names.get(name, name)
        for known in (self.wires, self.quantized):
            known.update({name: names.get(end, end) for name, end in known.items()})

    def _end(self, name: str) -> str:
        while name in self.wires:
            name = self.wires[name]
        return name

    def _refuse_integers(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for inner in subgraphs(node):
                self._refuse_integers(inner)
            place = repr(node.name or made(node))
            if node.op_type.startswith(INTEGER_OPERATORS):
                what = f"node {place} ({node.op_type}) computes with integers"
            elif _is(node, "QuantizeLinear") and not self.graph.is_constant(node.input[0]):
                what = f"integers of {place} (QuantizeLinear) are moved or read before a DequantizeLinear"
            else:
                continue
            raise ModelError(f"{what}, so the network without quantization is unknown: run `qdqgraph fix` first")


def replaced_activation(
    graph: Graph, pair: Pair, taken: set[str]
) -> tuple[onnx.NodeProto, tuple[onnx.TensorProto, ...]] | None:
    """The Relu or Clip that a pair's range replaces, on the pair's tensor, and the constants that it reads; None if it
    replaces none. Exporters fold none into the range of a graph input.

    Args:
        graph: the Q/DQ graph.
        pair: a pair of an activation, with a QuantizeLinear.
        taken: names in use; the new ones are added.
    """
    if pair.tensor in graph.inputs or not clips_negatives(graph, pair):
        return None
    quantization, name = Quantization.of(pair), fresh(f"{pair.tensor}_relu", taken)
    if quantization is None:  # integers of less than a byte, whose steps are too wide to tell
        return helper.make_node("Relu", [pair.tensor], [name]), ()
    ends, step = quantization.amax(), float(quantization.scale.astype(np.float64).max())
    if ends.size > 1 or abs(float(ends.reshape(-1)[0]) - RELU6) > step / 2:
        return helper.make_node("Relu", [pair.tensor], [name]), ()
    if graph.opset < 11:  # the limits are attributes there
        return helper.make_node("Clip", [pair.tensor], [name], min=0.0, max=RELU6), ()
    limits = tuple(
        numpy_helper.from_array(np.array(value, quantization.scale.dtype), fresh(f"{name}_{end}", taken))
        for end, value in zip(("low", "high"), (0.0, RELU6), strict=True)
    )
    return helper.make_node("Clip", [pair.tensor, *(limit.name for limit in limits)], [name]), limits


def _is(node: onnx.NodeProto, operator: str) -> bool:
    return node.op_type == operator and node.domain in PAIR_DOMAINS


def steps_of(pair: Pair, array: np.ndarray) -> np.ndarray:
    """One integer step for each weight, in a shape that broadcasts to the weights; of blocked pairs the largest."""
    assert pair.scale is not None
    scale = np.abs(pair.scale.astype(np.float64))
    quantization = None if pair.blocked else Quantization.of(pair)
    if quantization is None or not quantization.fits(array):
        return np.asarray(scale.max())
    return quantization.along(scale, array.ndim)


def sweep(graph: onnx.GraphProto) -> None:
    """Removes what no output of a graph depends on, also in its subgraphs: nodes, constants, and the declared types of
    tensors that are gone. The nodes must be sorted."""
    needed = {o.name for o in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(reads(node))
            for inner in subgraphs(node):
                sweep(inner)
    refill(graph.node, reversed(kept))
    refill(graph.initializer, [t for t in graph.initializer if t.name in needed])
    alive = {name for node in graph.node for name in node.output}
    refill(graph.value_info, [i for i in graph.value_info if i.name in alive])
