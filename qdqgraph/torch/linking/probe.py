"""`probe`: a temporary export that identifies the quantizer, or the place for one, of every node input.

Every quantizer gets a unique scale, and so does every place where a tensor enters a functional operator. The scales in
the exported file identify them: nothing is guessed from weights or node names, and calls of functions and modules that
are used twice are distinguished. The pairs of places that are not requested are then removed, so the graph is the one
that the model exports. Calls that compute only from parameters and constants have no places: a pair between two of them
would keep the exporter from folding them, as it does in the model's own export.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
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
from ..calls.constants import constant_calls
from ..calls.example import map_tensors
from ..calls.functional import ENTRY, Call, Place
from ..calls.places import places, scopes_for_quantizers
from ..calls.scopes import Scope, Scopes, attach, detach, scopes_of
from ..exporting.export import export_proto, resolve_opset
from ..quantizer.choice import matches
from ..quantizer.pairing import Encoding, PairWriter, preserve_attributes
from ..quantizer.quantizer import evaluating, quantizer_paths, quantizers, refuse_meta_tensors
from ..quantizer.wrapped import refuse_wrapped

BASE, STEP = 2.0, 2.0**-19
"""The first amax and the difference to the next. float32 distinguishes them, and a tie between any two of 7,000 costs
less than a hundredth of a bit."""


@dataclass(frozen=True)
class Probe:
    """An exported graph whose scales identify quantizers and places.

    Attributes:
        model: every quantizer and every place as a pair.
        quantizers: paths of the quantizers of activations, by ONNX's scale; places: places, by scale.
        aliases: every path of each quantizer, by its first.
        opaque: paths of modules in which autograd functions run: the calls inside these have no places.
    """

    model: onnx.ModelProto
    quantizers: Mapping[float, str]
    places: Mapping[float, Place]
    aliases: Mapping[str, tuple[str, ...]]
    opaque: frozenset[str] = frozenset()

    @cached_property
    def graph(self) -> Graph:
        """The graph with every pair."""
        return Graph(self.model)

    @cached_property
    def place_of_reader(self) -> Mapping[NodeInput, Place]:
        """The places by the node inputs that read their pairs."""
        return dict(self._readers(self.places))

    @cached_property
    def quantizer_of_reader(self) -> Mapping[NodeInput, str]:
        """The quantizers by the node inputs that read their pairs."""
        return dict(self._readers(self.quantizers))

    @cached_property
    def place_of_named_node(self) -> Mapping[tuple[str, int], Place]:
        """The places by name and input of the node that reads them, for unique names: a repair may rename a node's
        output, never the node."""
        count = Counter(node.name for node in self.graph.nodes())
        producers = {str(node.outputs[0].name): node.name for node in self.graph.nodes()}
        return {
            (producers[output], index): place
            for (output, index), place in self.place_of_reader.items()
            if producers.get(output) and count[producers[output]] == 1
        }

    def _readers(self, names: Mapping[float, Any]) -> list[tuple[NodeInput, Any]]:
        return [
            (reader.key, names[value])
            for pair in pairs(self.graph)
            if (value := scale_of(pair)) in names
            for node in pair.dequantizes
            for reader in self.graph.readers(key(node))
        ]

    def with_places(self, wanted: Collection[Place]) -> onnx.ModelProto:
        """The model with pairs for the quantizers and the wanted places only; each QuantizeLinear is named by the path
        of its quantizer."""
        unwanted = {value for value, place in self.places.items() if place not in wanted}
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        removed: dict[str, str] = {}
        names: dict[str, str] = {}
        for pair in pairs(self.graph):
            if pair.quantize is None:
                continue
            if scale_of(pair) in unwanted:
                removed.update({key(n): pair.tensor for n in pair.dequantizes})
                removed[key(pair.quantize)] = ""
            elif (path := self.quantizers.get(scale_of(pair))) is not None:
                own = quantizer_path(self.graph, pair.quantize)
                names[key(pair.quantize)] = own if own in self.aliases[path] else path
        kept = [node for node in model.graph.node if not node.output or node.output[0] not in removed]
        for node in kept:
            for i, name in enumerate(node.input):
                while name in removed:  # a call that exports no node leaves consecutive pairs
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


def _is_ignored(place: Place, ignore: Sequence[str]) -> bool:
    return any(matches(f"{place.module}.{place.call.operator}".lstrip("."), pattern) for pattern in ignore)


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
    ignore: Sequence[str] = (),
) -> Probe:
    """Exports a model with unique scales; the model itself is not changed.

    Args:
        model: quantized, calibrated or not.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as for `export`.
        dynamo: use the dynamo exporter.
        entries: paths of opaque modules, whose arguments are to be places.
        opset: as in `export`.
        ignore: patterns of modules, or of an operator in a module ("layer1.0.add"), whose calls have no places.

    Raises:
        TorchError: torch cannot export the model, it has tensors on the meta device, the example contains no tensor,
            the exporter does not write the opset, or the dynamo exporter lacks onnxscript.
    """
    if any(p.dtype in (torch.half, torch.bfloat16) for p in model.parameters()):
        # Half precision cannot represent that many different scales; the structure is the same in float.
        model = copy.deepcopy(model).float()
        example = map_tensors(lambda x: x.float() if x.is_floating_point() else x, example)
    found = quantizers(model)
    names: dict[float, str] = {}
    candidates: dict[float, Place] = {}
    known: dict[Place, float] = {}
    existing = {place: path for path, place in places(model).items()}
    writer = PairWriter(resolve_opset(opset, dynamo), dynamo)

    def next_scale() -> float:
        return float(np.float32(scale_from_amax(BASE + STEP * (len(names) + len(candidates)))))

    def own_quantizer(place: Place) -> nn.Module | None:
        path = existing.get(place)  # looked up in each run: an export replaces shared ones until it ends
        return None if path is None else model.get_submodule(path)

    def quantizer_of(scope: Scope, call: Call, operand: int) -> Callable[[Tensor], Tensor] | None:
        place = Place(scope.path, call, operand)
        if (own := own_quantizer(place)) is not None:
            return own
        hidden = call == ENTRY and scope.path not in entries
        if hidden or (scope.path, call) in constant or _is_ignored(place, ignore):
            return None
        if place not in known:
            known[place] = next_scale()
            candidates[known[place]] = place
        encoding = Encoding(np.array(known[place]), None)
        return lambda x: x if writer.is_output(x) else writer.pair(x, encoding)

    before = scopes_of(model)
    refuse_wrapped(model)
    refuse_meta_tensors(model)
    constant: set[tuple[str, Call]] = set()
    with preserve_attributes(found.values(), "_probe_scale"):
        for path, quantizer in found.items():
            quantizer._probe_scale = next_scale()
            names[quantizer._probe_scale] = path
        scopes = Scopes(quantizer_of, lambda scope, site: True)
        try:
            with evaluating(model):
                constant |= constant_calls(model, example, own_quantizer)
            attach(model, scopes)
            proto = export_proto(model, example, opset=writer.opset, dynamo=dynamo, writer=writer)
        finally:
            detach(model)
            if before is not None or existing:  # a submodule may have been linked by itself
                attach(model, before or scopes_for_quantizers())
    aliases: dict[str, list[str]] = {path: [] for path in found}
    first = {id(q): path for path, q in found.items()}
    for path, quantizer in quantizer_paths(model).items():
        aliases[first[id(quantizer)]].append(path)
    activations = {value: path for value, path in names.items() if not found[path].library.is_weight(path)}
    return Probe(
        proto, activations, candidates, {k: tuple(v) for k, v in aliases.items()}, frozenset(scopes.opaque - {""})
    )
