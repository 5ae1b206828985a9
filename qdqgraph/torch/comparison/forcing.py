"""An exported graph whose pairs receive the model's integers instead of their own, so that every layer of the file can
be compared with the model's on equal inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from ...graph.graph import Graph, key
from ...graph.pair import Pair, pairs
from ...graph.selectors import quantizer_path, quantizers
from ...model.protos import element_types
from .observing import At

INTEGERS = "/qdqgraph_forced"
"""The end of the names of inputs for integers."""


@dataclass(frozen=True)
class Forced:
    """A file with inputs for the integers of its pairs.

    Attributes:
        graph: the file.
        pairs: the pair of each run of a quantizer that has a known counterpart.
    """

    graph: Graph
    pairs: Mapping[At, Pair]

    @classmethod
    def of(cls, file: onnx.ModelProto, runs: Iterable[tuple[At, tuple[str, ...]]]) -> Forced:
        """The counterparts of the runs of quantizers: by the paths that the file records, and, for a quantizer that
        runs several times, by order, if it has as many pairs as it runs.

        Args:
            runs: each run, with the paths of its quantizer.
        """
        graph = Graph(file)
        by_path = _pairs_by_path(graph)
        every: dict[str, list[At]] = {}
        known: dict[str, list[Pair]] = {}
        for at, paths in runs:
            every.setdefault(at.path, []).append(at)
            known.setdefault(at.path, next((by_path[path] for path in paths if path in by_path), []))
        found: dict[At, Pair] = {}
        for path, ats in every.items():
            if len(ats) == len(known[path]):
                found.update(zip(ats, known[path], strict=True))
        return cls(graph, found)

    @cached_property
    def unforced(self) -> tuple[Pair, ...]:
        """Pairs of the file without a known counterpart."""
        known = {pair.key for pair in self.pairs.values()}
        return tuple(pair for pair in pairs(self.graph) if pair.quantize is not None and pair.key not in known)

    def model(self, taps: Iterable[str]) -> onnx.ModelProto:
        """The file with an input for the integers of each pair, and with these tensors as outputs after its own."""
        changed = onnx.ModelProto()
        changed.CopyFrom(self.graph.model)
        inputs = {key(p.quantize): integer_input(p) for p in self.pairs.values() if p.quantize is not None}
        for node in changed.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in inputs:
                node.input[0] = inputs[node.input[0]]
        for name, given in inputs.items():
            changed.graph.input.append(helper.make_tensor_value_info(given, self.types[name], None))
        changed.graph.output.extend(helper.make_tensor_value_info(name, self.types[name], None) for name in taps)
        return changed

    @cached_property
    def types(self) -> Mapping[str, int]:
        """Element types of the file's tensors."""
        return element_types(self.graph.model)

    def tappable(self, tensor: str) -> bool:
        """Whether a tensor can become an output: a node computes it, its type is known, and it is no output yet."""
        graph = self.graph
        return graph.producer(tensor) is not None and tensor in self.types and tensor not in graph.outputs

    def upstream(self, tensor: str) -> Iterator[gs.Node]:
        """The nodes that compute a tensor from the integers of the pairs and the inputs of the file."""
        cuts = {key(pair.quantize) for pair in self.pairs.values() if pair.quantize is not None}
        seen: set[str] = set()
        left = [tensor]
        while left:
            name = left.pop()
            node = self.graph.producer(name)
            if node is None or name in cuts or key(node) in seen:
                continue
            seen.add(key(node))
            yield node
            left.extend(t.name for t in node.inputs if t.name)


def integer_input(pair: Pair) -> str:
    """The name of the input for a pair's integers."""
    assert pair.quantize is not None
    return key(pair.quantize) + INTEGERS


def integer_type(pair: Pair) -> np.dtype[np.generic]:
    """The type of a pair's integers."""
    return np.dtype(np.uint8) if pair.zero_point is None else pair.zero_point.dtype


def _pairs_by_path(graph: Graph) -> dict[str, list[Pair]]:
    """The pairs of each path of a quantizer, in file order."""
    table = pairs(graph)
    found: dict[str, list[Pair]] = {}
    for pair in table:
        if pair.quantize is not None and (path := quantizer_path(graph, pair.quantize)):
            found.setdefault(path, []).append(pair)
    for path, sites in quantizers(graph).items():
        known = {pair.site for pair in found.get(path, ())}
        others = [table.at(site) for site in sites if site not in known]
        if all(len(each) == 1 for each in others):
            found.setdefault(path, []).extend(each[0] for each in others)
            found[path].sort(key=lambda pair: 0 if pair.quantize is None else graph.position(pair.quantize))
    return found
