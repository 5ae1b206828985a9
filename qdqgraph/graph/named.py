"""Sites that a rule file names, looked up once and followed through repairs.

A repair may merge or move the pair that a name comes from. What reads the site identifies it then: a repair may rename
a node's output, never the node.
"""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph, Node, key, label
from .pair import is_pair, pairs
from .selectors import quantizers, select_paths, select_sites


@dataclass(frozen=True)
class NamedSite:
    """A site by name, in the graph in which the name was looked up.

    Attributes:
        tensor: the site.
        readers: labels and input indexes of the nodes that read it, through its pairs or without them.
        paths: the PyTorch paths by which it was found.
    """

    tensor: str
    readers: tuple[tuple[str, int], ...]
    paths: tuple[str, ...] = ()

    def now(self, graph: Graph) -> str | None:
        """The site in a repaired graph; None if neither the tensor nor one of its readers is left."""
        if graph.producer(self.tensor) is not None or self.tensor in graph.inputs:
            return pairs(graph).root(self.tensor)
        nodes = graph.once(_by_label)
        for name, index in self.readers:
            inputs = nodes[name].inputs if name in nodes else ()
            if index < len(inputs) and not graph.is_constant(site := pairs(graph).root(inputs[index].name)):
                return site
        return None


def named_sites(graph: Graph, kind: str, name: str) -> tuple[NamedSite, ...]:
    """The sites that a name or glob matches, in file order; empty if it matches nothing.

    Args:
        graph: the graph.
        kind: one of `KINDS`.
        name: the name or glob.
    """
    paths = select_paths(graph, name) if kind == "quantizers" else ()
    return tuple(
        NamedSite(site, _readers(graph, site), tuple(p for p in paths if site in quantizers(graph)[p]))
        for site in select_sites(graph, kind, name)
    )


def _readers(graph: Graph, site: str) -> tuple[tuple[str, int], ...]:
    found, reached = [], [site]
    for tensor in reached:
        for reader in graph.readers(tensor):
            if is_pair(reader.node):
                reached += [key(reader.node)]
            elif reader.index >= 0:
                found.append((label(reader.node), reader.index))
    return tuple(found)


def _by_label(graph: Graph) -> dict[str, Node]:
    return {label(node): node for node in graph.nodes()}
