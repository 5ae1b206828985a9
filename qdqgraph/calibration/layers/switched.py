"""`switched`: a Q/DQ graph whose pairs can be bypassed when it runs, so one session runs every choice of pairs.

Each node input that reads a pair gets an If: the branch that is chosen computes the pair, or passes the float value on.
An If runs one branch only, so a bypassed pair costs no more than a copy (a Where computes both and takes three times as
long; measured in ONNX Runtime 1.32). Weights are inputs of the graph, given quantized or in float.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper

from ...graph.graph import Graph, Reader, key
from ...graph.pair import Pair, is_pair, pairs
from ...model.constants import array_of
from ...model.corrected import Place, originals
from ...model.protos import fresh, names, refill, rename_inputs
from ..inputs import model_inputs
from ..statistics.floating import CONSTANT_INITIALIZERS, FloatModel, replaced_activation, sweep
from .endings import ending

Choice = frozenset[int]
"""The units that a node input belongs to."""
REST: Choice = frozenset()
"""What no unit contains: graph outputs that are dequantized, inputs of subgraphs, a pair that another pair reads."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant that a pair quantizes, as an input of the switched graph.

    Attributes:
        name: the input.
        units: the units that it belongs to.
        float: its value before quantization.
        quantized: its value after the pair, of the same shape and type.
    """

    name: str
    units: Choice
    float: np.ndarray
    quantized: np.ndarray


@dataclass(frozen=True, eq=False)
class Switched:
    """A graph with switches.

    Attributes:
        model: its inputs are those of the Q/DQ graph, then switches and weights; its outputs are those of the Q/DQ
            graph, in order, with other names, then those of `before`.
        switches: the BOOL inputs, true for quantized, by the units that they belong to, and the site if its scale is an
            input, else "".
        weights: the weights, and the constants that a correction replaced, that differ in float.
        outputs: the names of the outputs of the Q/DQ graph.
        scales: the scales that are inputs too, by their site: the input and its present value.
        before: for an output that ends in a Softmax or Sigmoid (see `endings`), one more: this operator's input.
    """

    model: onnx.ModelProto
    switches: Mapping[tuple[Choice, str], str]
    weights: tuple[Weight, ...]
    outputs: tuple[str, ...]
    scales: Mapping[str, tuple[str, np.ndarray]]
    before: Mapping[str, str]

    def scaled(self, scales: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Inputs with which sites have other scales, by site; to be added to those of `off` or `on`."""
        found = ((self.scales[site], value) for site, value in scales.items())
        return {name: np.array(value, present.dtype) for (name, present), value in found}

    def off(self, *units: int) -> dict[str, np.ndarray]:
        """Inputs with which these units run in float, and everything else is quantized."""
        return self._feed(lambda choice: choice.isdisjoint(units))

    def on(self, *units: int) -> dict[str, np.ndarray]:
        """Inputs with which these units are quantized, and everything else runs in float."""
        return self._feed(lambda choice: not choice.isdisjoint(units))

    def alone(self, sites: Collection[str]) -> dict[str, np.ndarray]:
        """Inputs with which the pairs of these sites quantize, and everything else runs in float, weights too.

        Args:
            sites: some of those whose scale is an input.
        """
        return self.on() | {name: np.array(True) for (_, site), name in self.switches.items() if site in sites}

    def _feed(self, quantized: Callable[[Choice], bool]) -> dict[str, np.ndarray]:
        feed = {name: np.array(quantized(choice)) for (choice, _), name in self.switches.items()}
        feed |= dict(self.scales.values())
        return feed | {w.name: w.quantized if quantized(w.units) else w.float for w in self.weights}


def switched(
    graph: Graph, network: FloatModel, units: Mapping[str, Choice], scaled: Collection[str] = frozenset()
) -> Switched:
    """The switched graph of a Q/DQ graph. With everything in float it computes what its float network does.

    Args:
        graph: the Q/DQ graph, without local functions.
        network: its float network, for the float values of weights.
        units: the units of each node that reads pairs, by key.
        scaled: sites whose scale becomes an input; each has pairs with one scale, the same for all.
    """
    return _Building(graph, network, units, scaled).run()


class _Building:
    def __init__(self, graph: Graph, network: FloatModel, units: Mapping[str, Choice], scaled: Collection[str]) -> None:
        self.graph, self.units, self.scaled = graph, units, scaled
        self.scales: dict[str, tuple[str, np.ndarray]] = {}
        self.true = {tensor.name: tensor for tensor in network.model.graph.initializer}
        self.stored, self.folder = set(network.weights), network.folder
        self.model = onnx.ModelProto()
        self.model.CopyFrom(graph.model)
        self.model.ir_version = max(self.model.ir_version, CONSTANT_INITIALIZERS)
        refill(self.model.graph.input, model_inputs(self.model))
        self.taken = set(names(graph.model.graph))
        self.switches: dict[tuple[Choice, str], str] = {}
        self.weights: list[Weight] = []
        self.chosen: dict[tuple[str, Choice], str] = {}
        """A tensor after a pair, as a node reads it, and the units of the node → its switched tensor."""
        self.new: dict[str, onnx.NodeProto] = {}
        """New nodes, by their output."""
        self.places: dict[str, int] = {}
        """The position of the first node that reads the output of a new node."""

    def run(self) -> Switched:
        nodes = self.model.graph.node
        for pair in pairs(self.graph):
            for dequantize in pair.dequantizes:
                for reader in self.graph.readers(key(dequantize)):
                    self._switch(pair, dequantize, reader)
        for place, original in originals(self.graph.model, self.graph.folder).items():
            self._restore(place, original)
        outputs = tuple(o.name for o in self.model.graph.output)
        for output in self.model.graph.output:
            made = pairs(self.graph).made(output.name)
            if made is not None and made.kind == "activation":
                dequantize = self.graph.node(output.name)
                output.name = self._chosen(made, dequantize, output.name, REST, len(nodes))
        added: dict[int, list[onnx.NodeProto]] = {}
        for name, position in self.places.items():
            added.setdefault(position, []).append(self.new[name])
        ordered: list[onnx.NodeProto] = []
        for position in range(len(nodes) + 1):
            ordered += added.get(position, ())
            ordered += nodes[position : position + 1]
        before = self._before(outputs, ordered)
        refill(nodes, ordered)
        for name in self.switches.values():
            self.model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.BOOL, []))
        for weight in self.weights:
            kind = helper.np_dtype_to_tensor_dtype(weight.float.dtype)
            self.model.graph.input.append(helper.make_tensor_value_info(weight.name, kind, weight.float.shape))
        for name, value in self.scales.values():
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            self.model.graph.input.append(helper.make_tensor_value_info(name, kind, []))
        sweep(self.model.graph)
        del self.model.graph.value_info[:]
        return Switched(self.model, self.switches, tuple(self.weights), outputs, self.scales, before)

    def _before(self, outputs: Iterable[str], nodes: list[onnx.NodeProto]) -> dict[str, str]:
        """Adds the outputs before a Softmax or Sigmoid."""
        found: dict[str, str] = {}
        for output in outputs:
            if (end := ending(self.graph, output)) is not None:
                read, kind = self._proto(end).input[0], self.graph.dtype(self.graph.proto(end).input[0])
                found[output] = fresh(f"{output}_before", self.taken)
                nodes.append(helper.make_node("Identity", [read], [found[output]]))
                info = helper.make_tensor_value_info(found[output], kind or TensorProto.FLOAT, None)
                self.model.graph.output.append(info)
        return found

    def _switch(self, pair: Pair, dequantize: gs.Node, reader: Reader) -> None:
        """Lets one reader of a pair read a switched tensor."""
        mine = pair.agrees and reader.index >= 0 and not is_pair(reader.node)
        units = self.units.get(key(reader.node), REST) if mine else REST
        position, proto = self.graph.position(reader.node), self._proto(reader.node)
        read = [proto.input[reader.index]] if reader.index >= 0 else self._captured(reader.node, key(dequantize))
        for name in read:
            new = self._chosen(pair, dequantize, name, units, position)
            if reader.index >= 0:
                proto.input[reader.index] = new
            else:
                rename_inputs(proto, {name: new})

    def _restore(self, place: Place, original: np.ndarray) -> None:
        """Switches a constant that a correction replaced: in float, a layer has the original."""
        node = self.graph.node(place[0])
        makers = (self.graph.producer(t.name) for t in node.inputs)  # a bias may be an Add after its layer
        near = [node, *(maker for maker in makers if maker is not None)]
        units = next((self.units[key(n)] for n in near if key(n) in self.units), REST)
        proto = self._proto(node)
        name = proto.input[place[1]]
        present = self.graph.value(name)
        if present is not None and present.shape == original.shape:
            new = fresh(f"{name}_switched", self.taken)
            self.weights.append(Weight(new, units, original, np.ascontiguousarray(present)))
            proto.input[place[1]] = new

    def _captured(self, node: gs.Node, tensor: str) -> list[str]:
        """The names under which subgraphs of a node read a tensor."""
        found = (name for name, reader in self.graph.captures if reader.node is node)
        return [name for name in dict.fromkeys(found) if self.graph.source(name) == tensor]

    def _chosen(self, pair: Pair, dequantize: gs.Node, name: str, units: Choice, position: int) -> str:
        """The switched tensor for what a node reads as `name`; `name` itself if its float value is the same or is
        unknown."""
        if (name, units) not in self.chosen:
            if pair.kind != "activation":
                new = self._weight(pair, dequantize, name, units)
            elif pair.quantize is None:
                new = name
            else:
                new = self._activation(pair, dequantize, name, units)
            self.chosen[name, units] = new
        found = self.chosen[name, units]
        if found in self.new:
            self.places[found] = min(position, self.places.get(found, position))
        return found

    def _weight(self, pair: Pair, dequantize: gs.Node, name: str, units: Choice) -> str:
        quantized, real = self.graph.value(name), self._real(pair, key(dequantize))
        if quantized is None or real is None or real.shape != quantized.shape:
            return name
        real = np.ascontiguousarray(real.astype(quantized.dtype))
        if real.tobytes() == quantized.tobytes():
            return name
        new = fresh(f"{name}_switched", self.taken)
        self.weights.append(Weight(new, units, real, np.ascontiguousarray(quantized)))
        return new

    def _real(self, pair: Pair, name: str) -> np.ndarray | None:
        """The float value of weights: those that a QuantizeLinear reads, else those of the float network."""
        if pair.quantize is not None:
            return self.graph.value(pair.tensor)
        return array_of(self.true[name], self.folder) if name in self.stored and name in self.true else None

    def _activation(self, pair: Pair, dequantize: gs.Node, name: str, units: Choice) -> str:
        assert pair.quantize is not None
        kind = self.graph.dtype(name)
        rounds = [self._copy(pair.quantize), self._copy(dequantize)]
        rounds[1].input[0] = rounds[0].output[0]
        if pair.site in self.scaled:
            for node in rounds:
                node.input[1] = self._scale(pair)
        if kind is not None and self.graph.dtype(key(dequantize)) not in (None, kind):
            rounds.append(self._cast(rounds[1].output[0], kind))
        passes = self._float(pair, kind)
        new = fresh(f"{name}_switched", self.taken)
        branches = {
            f"{branch}_branch": helper.make_graph(
                nodes, branch, [], [helper.make_tensor_value_info(nodes[-1].output[0], kind or TensorProto.FLOAT, None)]
            )
            for branch, nodes in (("then", rounds), ("else", passes))
        }
        which = units, pair.site if pair.site in self.scaled else ""
        if which not in self.switches:
            self.switches[which] = fresh("quantized", self.taken)
        self.new[new] = helper.make_node("If", [self.switches[which]], [new], **branches)
        return new

    def _scale(self, pair: Pair) -> str:
        """The input for the scale of a pair's site."""
        if pair.site not in self.scales:
            name = fresh(f"{pair.site}_scale_switched", self.taken)
            self.scales[pair.site] = name, np.ascontiguousarray(pair.scale).reshape(())
        return self.scales[pair.site][0]

    def _float(self, pair: Pair, kind: int | None) -> list[onnx.NodeProto]:
        """Nodes that pass on the tensor before a pair, with the activation that its range replaces."""
        assert pair.quantize is not None
        own, now = self.graph.proto(pair.quantize).input[0], self._proto(pair.quantize).input[0]
        value, given = (pair.tensor, self.graph.dtype(pair.tensor)) if own == now else (now, self.graph.dtype(own))
        nodes: list[onnx.NodeProto] = []
        found = replaced_activation(self.graph, pair, self.taken)
        if found is not None:
            found[0].input[0] = value
            nodes.append(found[0])
            self.model.graph.initializer.extend(found[1])
            value = found[0].output[0]
        if kind is not None and given not in (None, kind):
            nodes.append(self._cast(value, kind))
        return nodes or [helper.make_node("Identity", [value], [fresh(f"{value}_passed", self.taken)])]

    def _proto(self, node: gs.Node) -> onnx.NodeProto:
        """A node as it is now: it may read switched tensors."""
        return self.model.graph.node[self.graph.position(node)]

    def _copy(self, node: gs.Node) -> onnx.NodeProto:
        new = onnx.NodeProto()
        new.CopyFrom(self._proto(node))
        new.ClearField("name")
        new.ClearField("output")
        new.output.extend(fresh(name, self.taken) for name in self._proto(node).output)
        return new

    def _cast(self, name: str, kind: int) -> onnx.NodeProto:
        return helper.make_node("Cast", [name], [fresh(f"{name}_cast", self.taken)], to=kind)


def sets_of(units: Iterable[Iterable[str]]) -> dict[str, Choice]:
    """The units of each node, by key, from the nodes of each unit."""
    found: dict[str, set[int]] = {}
    for index, nodes in enumerate(units):
        for node in nodes:
            found.setdefault(node, set()).add(index)
    return {node: frozenset(indices) for node, indices in found.items()}
