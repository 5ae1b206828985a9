"""`Twin`: one network that computes a float network beside its Q/DQ graph, and their differences at each layer.

A layer is a node that reads a tensor through a Q/DQ pair. It is computed alone, from the float network's values rounded
by its own pairs, and in the Q/DQ graph, where the errors of all layers upstream have accumulated. The differences are
reduced in the network, so no tensor leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, compose, helper, numpy_helper

from ...graph.constants import constants
from ...graph.graph import Graph, key
from ...graph.pair import Pair, is_pair, pairs
from ...graph.quantization import Quantization
from ...model.protos import element_types, fresh, is_standard, names, refill, rename_inputs, subgraphs
from ..statistics.floating import FloatModel

AXES_AS_INPUT = 18
"""The first opset in which ReduceMean reads its axes."""
REALS = (TensorProto.FLOAT, TensorProto.FLOAT16)
SUMS = ("signal", "noise", "found", "product", "largest")
"""Scalars of a comparison: sums of reference ** 2, difference ** 2, value ** 2, reference * value; the largest
difference."""


@dataclass(frozen=True)
class Compared:
    """One tensor that is compared.

    Attributes:
        layer: the key of the layer in the Q/DQ graph.
        variant: the index of the variant.
        sums: the outputs of the twin with the values of `SUMS`.
        mean: the output with the mean difference of each channel, [C]; "" if it is not computed.
        square: the output with the mean squared difference of each channel, [C]; "" likewise.
    """

    layer: str
    variant: int
    sums: tuple[str, ...]
    mean: str = ""
    square: str = ""


@dataclass(frozen=True)
class Clipping:
    """One tensor that layers read through a pair, and how many of its values the pair clips.

    Attributes:
        tensor: the output of the pair's DequantizeLinear in the Q/DQ graph.
        sums: the outputs of the twin with the number of values whose nearest integer is beyond the range of the
            pair's integers, and the number of all values.
    """

    tensor: str
    sums: tuple[str, str]


@dataclass(frozen=True, eq=False)
class Twin:
    """The network, and where its results are.

    Attributes:
        model: its inputs are those of the Q/DQ graph, its outputs reduced differences.
        alone: each layer alone; with variants, each layer once for each variant, variants in order.
        accumulated: each layer in the Q/DQ graph; empty if not asked for.
        skipped: layers that are not compared, by key, with the reason.
        clipping: the tensors that the compared layers read through a pair with integers of at least 8 bits; empty if
            not asked for.
    """

    model: onnx.ModelProto
    alone: tuple[Compared, ...]
    accumulated: tuple[Compared, ...]
    skipped: dict[str, str]
    clipping: tuple[Clipping, ...] = ()


def layers(graph: Graph) -> tuple[gs.Node, ...]:
    """The nodes that read an activation through a pair, in file order."""
    return tuple(n for n in graph.nodes() if not is_pair(n) and any(activation_pair(graph, t.name) for t in n.inputs))


def twin(
    graph: Graph,
    network: FloatModel,
    chosen: Sequence[gs.Node],
    *,
    accumulated: bool = False,
    clipping: bool = False,
    channels: Mapping[str, int] | None = None,
    variants: Sequence[Mapping[str, float]] = ({},),
) -> Twin:
    """The twin of a Q/DQ graph and its float network.

    Args:
        graph: the Q/DQ graph.
        network: its float network.
        chosen: the layers to compare, of `layers`.
        accumulated: also compare the layers inside the Q/DQ graph.
        clipping: also count the values that the pairs of the layers clip.
        channels: the channel axis of the layers whose differences are also reduced per channel, by key.
        variants: scales by site; each layer alone is computed with the scales of each variant.
    """
    return _Building(graph, network, accumulated, channels or {}, variants).run(chosen, clipping=clipping)


def activation_pair(graph: Graph, tensor: str) -> Pair | None:
    """The pair of an activation, with a QuantizeLinear, whose DequantizeLinear produces the tensor; None if none."""
    pair = pairs(graph).made(tensor)
    return pair if pair is not None and pair.kind == "activation" and pair.quantize is not None else None


class _Building:
    def __init__(
        self,
        graph: Graph,
        network: FloatModel,
        accumulated: bool,
        channels: Mapping[str, int],
        variants: Sequence[Mapping[str, float]],
    ) -> None:
        self.graph, self.network, self.channels, self.variants = graph, network, channels, variants
        self.model = onnx.ModelProto()
        self.model.CopyFrom(network.model)
        self.model.opset_import.extend(
            o for o in graph.model.opset_import if o.domain not in {d.domain for d in self.model.opset_import}
        )
        self.types = element_types(network.model)
        self.taken = set(names(network.model.graph))
        self.producers = {name: n for n in network.model.graph.node for name in n.output if name}
        self.copied: dict[str, str] = {}
        """Constants of the Q/DQ graph → their names in the twin."""
        self.through: dict[tuple[str, float | None], list[str]] = {}
        """A tensor after a pair, and the scale if not the pair's → what its DequantizeLinear reads in the twin."""
        self.made: dict[tuple[Any, ...], str] = {}
        """A node of the twin, by what it computes from what → its output. Nothing is computed twice except floats from
        integers, which take a quarter of the memory until the last layer has read them."""
        self.new: list[onnx.NodeProto] = []
        self.outputs: dict[str, onnx.ValueInfoProto] = {}
        self.prefix = fresh("quantized/", self.taken) if accumulated else ""

    def run(self, chosen: Sequence[gs.Node], *, clipping: bool) -> Twin:
        alone: list[Compared] = []
        whole: list[Compared] = []
        skipped: dict[str, str] = {}
        clipped: dict[str, Clipping | None] = {}
        if self.prefix:
            self._add_quantized()
        for node in chosen:
            reason = self._unfit(node)
            if reason:
                skipped[key(node)] = reason
                continue
            reference = self._reference(node)
            for index, scales in enumerate(self.variants):
                found = self._clone(node, [self._read(node, i, scales) for i in range(len(node.inputs))])
                alone.append(self._compare(key(node), index, reference, found))
            for tensor in node.inputs if clipping else ():
                if tensor.name not in clipped:
                    clipped[tensor.name] = self._clipping(tensor.name)
            if self.prefix:
                whole.append(self._compare(key(node), 0, reference, self.prefix + key(node), channels=False))
        self.model.graph.node.extend(self.new)
        refill(self.model.graph.output, self.outputs.values())
        del self.model.graph.value_info[:]
        return Twin(self.model, tuple(alone), tuple(whole), skipped, tuple(filter(None, clipped.values())))

    def _add_quantized(self) -> None:
        """Adds the Q/DQ graph under prefixed names; it reads the same inputs."""
        other = compose.add_prefix(self.graph.model, self.prefix, rename_functions=False)
        inputs = {self.prefix + name: name for name in self.graph.inputs}
        for node in other.graph.node:
            rename_inputs(node, inputs)
        self.new.extend(other.graph.node)
        self.model.graph.initializer.extend(other.graph.initializer)

    def _unfit(self, node: gs.Node) -> str:
        """Returns why a layer cannot be compared, or ""."""
        proto = self.graph.proto(node)
        if next(iter(subgraphs(proto)), None) is not None or len([t for t in node.outputs if t.name]) != 1:
            return "it has a subgraph or several outputs"
        if self.types.get(self.network.tensor(key(node))) not in REALS:
            return "its output is not floating-point"
        for tensor in node.inputs:
            source = self.network.tensor(tensor.name) if tensor.name else ""
            if source and not self.graph.is_constant(tensor.name) and source not in self.types:
                return f"the float network has no tensor '{tensor.name}'"
            pair = activation_pair(self.graph, tensor.name)
            parameters = () if pair is None else (t.name for n in pair.nodes for t in n.inputs[1:])
            if not all(self.graph.is_constant(name) for name in parameters if name):
                return f"the scale or zero-point of '{tensor.name}' is computed at run time"
        return ""

    def _reference(self, node: gs.Node) -> str:
        """The float network's result of a layer; computed again if a Relu that a pair had replaced has its name."""
        name = self.network.tensor(key(node))
        producer = self.producers.get(name)
        if producer is not None and producer.op_type == node.op and is_standard(producer):
            return name
        inputs = [self.network.tensor(t.name) if t.name else "" for t in node.inputs]
        return self._clone(node, [self._typed(node, i, name, self.types.get(name)) for i, name in enumerate(inputs)])

    def _read(self, node: gs.Node, index: int, scales: Mapping[str, float]) -> str:
        """The name in the twin of an input of a layer, as `_rounded`, in the type that the layer reads."""
        tensor = node.inputs[index].name
        name = self._rounded(tensor, scales)
        own = self.graph.is_constant(tensor) or activation_pair(self.graph, tensor) is not None
        return self._typed(node, index, name, self.graph.dtype(tensor) if own else self.types.get(name))

    def _typed(self, node: gs.Node, index: int, name: str, given: int | None) -> str:
        """A tensor of type `given` in the type of a node's input: the view leaves out the Casts between them."""
        wanted = self.graph.dtype(self.graph.proto(node).input[index])
        return name if None in (given, wanted) or given == wanted else self._node("Cast", [name], to=wanted)

    def _rounded(self, tensor: str, scales: Mapping[str, float]) -> str:
        """The name in the twin of what a layer reads: a constant as the Q/DQ graph computes it, a float value rounded
        by the layer's pair, or a float value."""
        if not tensor:
            return ""
        if self.graph.is_constant(tensor):
            return self._constant(tensor)
        pair = activation_pair(self.graph, tensor)
        if pair is None:
            return self.network.tensor(tensor)
        scale = scales.get(pair.site)
        if (tensor, scale) not in self.through:
            assert pair.quantize is not None
            source = self.network.tensor(pair.tensor)
            value = self._typed(pair.quantize, 0, source, self.types.get(source))
            integers = self._clone(pair.quantize, [value, *self._parameters(pair.quantize, scale)])
            self.through[tensor, scale] = [integers, *self._parameters(self.graph.node(tensor), scale)]
        return self._clone(self.graph.node(tensor), self.through[tensor, scale])

    def _parameters(self, node: gs.Node, scale: float | None) -> list[str]:
        """Scale and zero-point of a Q or DQ in the twin, with another scale if one is given."""
        found = [self._constant(t.name) if t.name else "" for t in node.inputs[1:]]
        kind = self.graph.dtype(node.inputs[1].name)
        if scale is not None and kind is not None:
            found[0] = self._scalar(scale, helper.tensor_dtype_to_np_dtype(kind))
        return found

    def _scalar(self, value: float, kind: np.dtype[Any]) -> str:
        name = fresh("scale", self.taken)
        self.model.graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def _constant(self, tensor: str) -> str:
        """Copies a constant of the Q/DQ graph, with the nodes that compute it."""
        for node in constants(self.graph).path(tensor, self.copied):
            self._clone(node, [self._stored(t.name) if t.name else "" for t in node.inputs], key(node))
        return self._stored(tensor)

    def _stored(self, tensor: str) -> str:
        """Copies an initializer, unless the constant is copied already."""
        if tensor not in self.copied:
            self.copied[tensor] = name = fresh(tensor, self.taken)
            stored = onnx.TensorProto()
            stored.CopyFrom(self.graph.initializers[tensor])
            stored.name = name
            self.model.graph.initializer.append(stored)
        return self.copied[tensor]

    def _clone(self, node: gs.Node, inputs: Iterable[str], constant: str = "") -> str:
        """Adds a copy of a node that reads `inputs`; returns its first output. Outputs of a constant are recorded."""
        inputs = tuple(inputs)
        if (key(node), inputs) in self.made and not constant and node.op != "DequantizeLinear":
            return self.made[key(node), inputs]
        proto = onnx.NodeProto()
        proto.CopyFrom(self.graph.proto(node))
        proto.ClearField("name")
        proto.ClearField("input")
        proto.input.extend(inputs)
        for index, name in enumerate(proto.output):
            proto.output[index] = fresh(name, self.taken) if name else ""
            if constant and name:
                self.copied[name] = proto.output[index]
        self.new.append(proto)
        self.made[key(node), inputs] = made = str(proto.output[0])
        return made

    def _compare(self, layer: str, variant: int, reference: str, found: str, *, channels: bool = True) -> Compared:
        kind, single, both = self.graph.dtype(layer), TensorProto.FLOAT, (reference, found)
        wide = [n if self.types.get(n, kind) == single else self._node("Cast", [n], to=single) for n in both]
        difference = self._node("Sub", [wide[1], wide[0]])
        sums = [
            self._node("ReduceSumSquare", [wide[0]], keepdims=0),
            self._node("ReduceSumSquare", [difference], keepdims=0),
            self._node("ReduceSumSquare", [wide[1]], keepdims=0),
            self._node("ReduceSum", [self._node("Mul", wide)], keepdims=0),
            self._node("ReduceMax", [self._node("Abs", [difference])], keepdims=0),
        ]
        mean = square = ""
        shape = self.graph.shape(layer)
        if channels and layer in self.channels and shape is not None:
            axes = [i for i in range(len(shape)) if i != self.channels[layer] % len(shape)]
            mean = self._mean(difference, axes)
            square = self._mean(self._node("Mul", [difference, difference]), axes)
        for name in (*sums, *filter(None, (mean, square))):
            self.outputs.setdefault(name, helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return Compared(layer, variant, tuple(sums), mean, square)

    def _clipping(self, tensor: str) -> Clipping | None:
        """Counts the float values that the pair of a tensor saturates; None if that is unknown."""
        pair = activation_pair(self.graph, tensor)
        quantization = None if pair is None else Quantization.of(pair)
        shape = self.graph.shape(tensor)
        if pair is None or quantization is None or not quantization.fits_shape(shape):
            return None
        bounds = np.iinfo(quantization.zero_point.dtype)
        wide = self._node("Cast", [self.network.tensor(pair.tensor)], to=TensorProto.FLOAT)
        outside = []
        for op, last in (("Less", bounds.min - 0.5), ("Greater", bounds.max + 0.5)):
            limits = (last - quantization.zero_point.astype(np.float64)) * quantization.scale.astype(np.float64)
            limit = fresh(f"{op}/{tensor}", self.taken)
            array = quantization.along(limits.astype(np.float32), len(shape or ()))
            self.model.graph.initializer.append(numpy_helper.from_array(array, limit))
            outside.append(self._node(op, [wide, limit]))
        beyond = self._node("Cast", [self._node("Or", outside)], to=TensorProto.FLOAT)
        sums = self._node("ReduceSum", [beyond], keepdims=0), self._node("Size", [wide])
        for name, kind in zip(sums, (TensorProto.FLOAT, TensorProto.INT64), strict=True):
            self.outputs.setdefault(name, helper.make_tensor_value_info(name, kind, None))
        return Clipping(tensor, sums)

    def _mean(self, tensor: str, axes: list[int]) -> str:
        if self.graph.opset < AXES_AS_INPUT:
            return self._node("ReduceMean", [tensor], axes=axes, keepdims=0)
        name = fresh("axes", self.taken)
        self.model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(axes)], axes))
        return self._node("ReduceMean", [tensor, name], keepdims=0)

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        asked = (op, *inputs, repr(attributes))
        if asked not in self.made:
            self.made[asked] = fresh(f"{op}/{inputs[0]}", self.taken)
            self.new.append(helper.make_node(op, inputs, [self.made[asked]], **attributes))
        return self.made[asked]
