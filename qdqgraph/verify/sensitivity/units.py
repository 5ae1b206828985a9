"""`units`: the parts of a Q/DQ graph that are quantized or left in float as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from ...errors import ModelError
from ...graph.blocks import owners
from ...graph.graph import Graph, key, label
from ...graph.pair import Pair, is_pair, pairs
from ...graph.walks import downstream
from ...repair.solution import Solution
from ..groups import SiteGroup
from . import By


@dataclass(frozen=True)
class Unit:
    """Layers that are switched together.

    Attributes:
        name: the group's anchor or first site; else the first layer.
        layers: the keys of the nodes that read pairs, in file order, with the nodes between a pair and a constant
            operand: what `strip` takes.
        nodes: what messages call them.
        sites: the tensors that their pairs quantize, without weights.
    """

    name: str
    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    sites: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Read:
    """A node that reads a pair which `strip` can remove there."""

    node: gs.Node
    pair: Pair


def units(graph: Graph, by: By, solution: Solution) -> tuple[Unit, ...]:
    """The units of a graph, in file order.

    A layer that reads sites of two groups belongs to both; a layer that reads only weights through a pair is a unit of
    its own.

    Args:
        graph: the Q/DQ graph.
        by: what is a unit.
        solution: the groups of its sites.

    Raises:
        ModelError: no node reads a tensor through a pair.
    """
    found: dict[str, list[_Read]] = {}
    for read in _reads(graph):
        for layer in _layers(graph, read.node):
            found.setdefault(layer, []).append(read)
    if not found:
        raise ModelError("no node of the model reads a tensor through a Q/DQ pair: there is nothing to switch")
    position = {key(node): i for i, node in enumerate(graph.nodes())}
    names = {"layer": _by_layer, "block": _by_block, "group": _by_group}[by](graph, found, solution)
    members: dict[tuple[str, bool], list[str]] = {}
    for layer in sorted(found, key=lambda layer: position[layer]):
        alone = by == "group" and not _sites(found[layer])  # a site may have the name of a layer
        for name in names[layer]:
            members.setdefault((name, alone), []).append(layer)
    return tuple(_unit(graph, name, [r for m in layers for r in found[m]]) for (name, _), layers in members.items())


def _reads(graph: Graph) -> Iterator[_Read]:
    for pair in pairs(graph):
        if not pair.agrees or (pair.quantize is None and pair.kind == "activation"):
            continue  # the file does not contain the float values
        for dequantize in pair.dequantizes:
            for reader in graph.readers(key(dequantize)):
                if reader.index >= 0 and not is_pair(reader.node):
                    yield _Read(reader.node, pair)


def _layers(graph: Graph, node: gs.Node) -> list[str]:
    """The node itself; for a node that computes a constant, those that read it."""
    if not graph.is_constant(key(node)):
        return [key(node)]

    def inner(at: gs.Node) -> bool:
        return graph.is_constant(key(at)) and not is_pair(at)

    reached = (at for tensor in node.outputs for at in downstream(graph, tensor.name, inner))
    return list(dict.fromkeys(key(at) for at in reached if not graph.is_constant(key(at)) and not is_pair(at)))


def _by_layer(graph: Graph, found: Iterable[str], solution: Solution) -> dict[str, list[str]]:
    return {layer: [layer] for layer in found}


def _by_block(graph: Graph, found: Iterable[str], solution: Solution) -> dict[str, list[str]]:
    cores = owners(graph)
    return {layer: [cores.get(layer, layer)] for layer in found}


def _by_group(graph: Graph, found: dict[str, list[_Read]], solution: Solution) -> dict[str, list[str]]:
    names = {
        n: list(dict.fromkeys(SiteGroup.of(solution, s).name for s in _sites(reads))) for n, reads in found.items()
    }
    return {layer: mine or [layer] for layer, mine in names.items()}


def _sites(reads: Iterable[_Read]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(r.pair.site for r in reads if r.pair.kind == "activation"))


def _unit(graph: Graph, name: str, reads: list[_Read]) -> Unit:
    nodes = sorted({id(r.node): r.node for r in reads}.values(), key=graph.position)
    return Unit(name, tuple(map(key, nodes)), tuple(map(label, nodes)), _sites(reads))
