"""A throw-away export that tells which quantizer, and which place where one could stand, feeds which input of the
graph.

Every quantizer gets an amax of its own, and so does every place where a tensor enters a functional operator. The scales
in the exported file are then their names: nothing is guessed from weights or node names, calls of functions and modules
that are used twice included. Places that are not asked for are taken out of the graph again: what remains is what the
model exports, with a known place behind each input of each node.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ...graph.amax import scale_from_amax
from ...graph.graph import Graph, key
from ...graph.pair import Pair, pairs
from ...graph.selectors import SCOPES, quantizer_path
from ...proposals.proposal import NodeInput
from ..calls.example import mapped
from ..calls.functional import ENTRY, Call, Place
from ..calls.places import parted, placed, places
from ..calls.scopes import Scope, Scopes, attach, attached, detach
from ..exporting.export import opset_of, traced
from ..quantizer.pairing import Encoding, Writing, restored
from ..quantizer.quantizer import is_weight, paths, quantizers

BASE, STEP = 2.0, 2.0**-19
"""The first amax and the distance to the next: float32 keeps them apart, and all of them together differ by so little
that no tie between them costs a hundredth of a bit."""


@dataclass(frozen=True)
class Probe:
    """An exported graph with a name for each scale.

    Attributes:
        model: every quantizer and every place as a pair.
        quantizers: path of an activation's quantizer by its scale, ONNX's, that names it; places: place by its scale.
        aliases: every path of each quantizer, by its first.
        opaque: paths of modules whose inside has no places, since autograd functions run there.
    """

    model: onnx.ModelProto
    quantizers: Mapping[float, str]
    places: Mapping[float, Place]
    aliases: Mapping[str, tuple[str, ...]]
    opaque: frozenset[str] = frozenset()

    @cached_property
    def graph(self) -> Graph:
        """The graph of everything."""
        return Graph(self.model)

    @cached_property
    def at(self) -> Mapping[NodeInput, Place]:
        """The places by the node inputs that read their pairs."""
        return dict(self._readers(self.places))

    @cached_property
    def reads(self) -> Mapping[NodeInput, str]:
        """The quantizers by the node inputs that read their pairs."""
        return dict(self._readers(self.quantizers))

    @cached_property
    def named(self) -> Mapping[tuple[str, int], Place]:
        """The places by the names of the nodes, where these are unique: a repair may let a node make another tensor."""
        count = Counter(node.name for node in self.graph.nodes())
        makers = {str(node.outputs[0].name): node.name for node in self.graph.nodes()}
        return {
            (makers[output], index): place
            for (output, index), place in self.at.items()
            if makers.get(output) and count[makers[output]] == 1
        }

    def _readers(self, names: Mapping[float, Any]) -> list[tuple[NodeInput, Any]]:
        return [
            (reader.key, names[value])
            for pair in pairs(self.graph)
            if (value := scale_of(pair)) in names
            for node in pair.dequantizes
            for reader in self.graph.readers(key(node))
        ]

    def only(self, wanted: Collection[Place]) -> onnx.ModelProto:
        """The graph with the quantizers and the wanted places alone; Q nodes bear the paths of their quantizers."""
        gone = {value for value, place in self.places.items() if place not in wanted}
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        removed: dict[str, str] = {}
        names: dict[str, str] = {}
        for pair in pairs(self.graph):
            if pair.quantize is None:
                continue
            if scale_of(pair) in gone:
                removed.update({key(n): pair.tensor for n in pair.dequantizes})
                removed[key(pair.quantize)] = ""
            elif (path := self.quantizers.get(scale_of(pair))) is not None:
                own = quantizer_path(self.graph, pair.quantize)
                names[key(pair.quantize)] = own if own in self.aliases[path] else path
        kept = [node for node in model.graph.node if not node.output or node.output[0] not in removed]
        for node in kept:
            for i, name in enumerate(node.input):
                while name in removed:  # a call that is no node leaves a pair behind a pair
                    name = removed[name]
                node.input[i] = name
            if node.output and node.output[0] in names:
                node.name = "/" + names[node.output[0]].replace(".", "/") + "/QuantizeLinear"
                scopes = [p for p in node.metadata_props if p.key != SCOPES]
                del node.metadata_props[:]
                node.metadata_props.extend(scopes)
        del model.graph.node[:]
        model.graph.node.extend(kept)
        return model


def scale_of(pair: Pair) -> float:
    """The scale of a pair; the first of a vector, whose entries are equal in a probe."""
    return float(np.ravel(pair.scale)[0]) if pair.scale is not None and pair.scale.size else 0.0


def probe(
    model: nn.Module,
    example: Any,
    *,
    dynamo: bool = False,
    entries: Collection[str] = (),
    opset: int | None = None,
) -> Probe:
    """Exports the graph; the model is left as it was.

    Args:
        model: quantized, calibrated or not.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as the model is exported with.
        dynamo: use the dynamo exporter.
        entries: paths of modules whose arguments are places, for those whose inside is opaque.
        opset: as in `export`.

    Raises:
        TorchError: torch cannot export the model, it has tensors on the meta device, the example holds no tensor, the
            exporter does not write the opset, or the dynamo exporter lacks onnxscript.
    """
    if any(p.dtype in (torch.half, torch.bfloat16) for p in model.parameters()):
        # Half precision cannot tell that many scales apart; the structure is the same in float.
        model = copy.deepcopy(model).float()
        example = mapped(lambda x: x.float() if x.is_floating_point() else x, example)
    found = quantizers(model)
    names: dict[float, str] = {}
    candidates: dict[float, Place] = {}
    known: dict[Place, float] = {}
    standing = {place: model.get_submodule(path) for path, place in places(model).items()}
    writing = Writing(opset_of(opset, dynamo), dynamo)

    def unused() -> float:
        return float(np.float32(scale_from_amax(BASE + STEP * (len(names) + len(candidates)))))

    def enter(scope: Scope, call: Call, operand: int) -> Callable[[Tensor], Tensor] | None:
        place = Place(scope.path, call, operand)
        if place in standing:
            own: nn.Module = standing[place]
            return own
        if call == ENTRY and scope.path not in entries:
            return None
        if place not in known:
            known[place] = unused()
            candidates[known[place]] = place
        grid = Encoding(np.array(known[place]), None)
        return lambda x: x if writing.made(x) else writing.pair(x, grid)

    before = attached(model)
    with restored(found.values(), "_probe"):
        for path, quantizer in found.items():
            quantizer._probe = unused()
            names[quantizer._probe] = path
        scopes = Scopes(enter, lambda scope, where: True)
        attach(model, scopes)
        try:
            proto = traced(model, example, opset=writing.opset, dynamo=dynamo, writing=writing)
        finally:
            detach(model)
            if before is not None or standing:  # a part may have been linked alone
                attach(model, before or Scopes(placed, parted))
    aliases: dict[str, list[str]] = {path: [] for path in found}
    first = {id(q): path for path, q in found.items()}
    for path, quantizer in paths(model).items():
        aliases[first[id(quantizer)]].append(path)
    activations = {value: path for value, path in names.items() if not is_weight(path)}
    return Probe(
        proto, activations, candidates, {k: tuple(v) for k, v in aliases.items()}, frozenset(scopes.opaque - {""})
    )
