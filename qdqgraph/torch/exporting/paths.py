"""The paths of a model's quantizers in the exported file, for ties by PyTorch path.

Exporters write one path per node, that of the modules whose forward runs. A pair that several quantizers share has
several paths, and the quantizer of a call is in no module that runs. During an export every place in the model has a
quantizer of its own, the writer numbers its pairs, and each pair gets the paths of its quantizers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onnx
from torch import nn

from ...graph.graph import Graph
from ...graph.pair import pairs
from ...graph.selectors import SCOPES, path_of
from ...repair.paths import record_paths
from ..quantizer.pairing import NUMBER, PairWriter
from ..quantizer.quantizer import Quantizer, parent_module, quantizer_paths


@contextmanager
def separate_quantizers(model: nn.Module) -> Iterator[dict[tuple[str, ...], Quantizer]]:
    """Gives each place in the model a quantizer of its own until the block ends; copies have the buffers of the
    original. Yields the quantizers by their paths: a module that is used at two paths has two."""
    paths: dict[tuple[int, str], list[str]] = {}
    for path in quantizer_paths(model):
        holder, name = parent_module(model, path)
        paths.setdefault((id(holder), name), []).append(path)
    found: dict[tuple[str, ...], Quantizer] = {}
    originals: list[tuple[nn.Module, str, nn.Module | None]] = []
    known: set[int] = set()
    try:
        for (_, name), own in paths.items():
            holder, _ = parent_module(model, own[0])
            quantizer = holder._modules[name]
            assert isinstance(quantizer, Quantizer)
            if id(quantizer) in known:
                originals.append((holder, name, quantizer))
                quantizer = copy.copy(quantizer)
                holder._modules[name] = quantizer
            known.add(id(quantizer))
            found[tuple(own)] = quantizer
        yield found
    finally:
        for holder, name, original in originals:
            holder._modules[name] = original


def writer_for(writer: PairWriter, paths: tuple[str, ...], quantizer: Quantizer) -> PairWriter:
    """The writer for the quantizer at these paths; pairs of weights are not numbered."""
    return writer if quantizer.library.is_weight(paths[0]) else writer.named(paths)


def name_pairs(proto: onnx.ModelProto, paths_by_pair: Mapping[int, tuple[str, ...]]) -> onnx.ModelProto:
    """Names the pairs of an exported graph by their paths, in place, and removes their numbers; returns the graph with
    paths beyond the first of each pair in its metadata."""
    names = {node.name for node in proto.graph.node}
    extra: dict[str, list[str]] = {}
    for node in proto.graph.node:
        number = next((a.i for a in node.attribute if a.name == NUMBER), None)
        if number is None:
            continue
        kept = [a for a in node.attribute if a.name != NUMBER]
        del node.attribute[:]
        node.attribute.extend(kept)
        first, *others = sorted(paths_by_pair[number], key=lambda path: path != path_of(node))
        if path_of(node) != first:
            scopes = [p for p in node.metadata_props if p.key != SCOPES]
            del node.metadata_props[:]
            node.metadata_props.extend(scopes)
            node.name = _unique("/" + first.replace(".", "/") + "/QuantizeLinear", names)
        for path in others:
            extra.setdefault(path, []).append(node.input[0])
    if not extra:
        return proto
    roots = pairs(graph := Graph(proto))
    return record_paths(graph, {path: tuple(map(roots.root, tensors)) for path, tensors in extra.items()}).model


def _unique(name: str, names: set[str]) -> str:
    number, found = 0, name
    while found in names:
        number += 1
        found = f"{name}_{number}"
    names.add(found)
    return found
