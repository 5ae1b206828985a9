"""`Constants`: the tensors that are computed from constants alone, and their values.

Exporters leave weights computed: weight norm, a folded BatchNormalization, W + B·A of LoRA, anything written with
`do_constant_folding=False`. Such a tensor is as constant as an initializer: TensorRT folds it, or computes it without
reading a network input.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from ..model.constants import array_of, computed, constant_value
from ..model.protos import is_standard
from ..operators import RANDOM, REPRODUCIBLE
from .casts import converted
from .quantization import Quantization

if TYPE_CHECKING:
    from .graph import Graph

SMALL = 4096
"""Largest number of elements of a constant that is cached: scales and zero-points, not weights."""
RECENT = 1 << 24
"""Largest number of elements of the last computed constant, which is kept: 64 MiB of FP32."""
LARGEST = 1 << 28
"""Largest number of elements that is computed: 1 GiB of FP32."""


class Constants:
    """Which tensors of a graph are constant; found once, in linear time.

    A tensor is constant if it is an initializer, or if all inputs of its producer are constant and the producer is a
    deterministic operator of ONNX's own domain; tensors that its subgraphs capture count as inputs. An initializer that
    is also a graph input is constant: TensorRT's parser creates no network input for it
    (https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/ModelImporter.cpp, importInputs).
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._values: dict[str, np.ndarray] = {}
        self.names = set(graph.initializers)
        self._nodes: list[str] = []
        self._reproducible = set(graph.initializers)
        self._recent = ""
        self._captured: dict[int, list[str]] = {}
        for name, reader in graph.captures:
            self._captured.setdefault(id(reader.node), []).append(graph.source(name))
        for node in graph.nodes():
            reads = [t.name for t in node.inputs if t.name]
            reads += self._captured.get(id(node), ())
            if self.names.issuperset(reads) and is_standard(node) and not self._random(node):
                made = [t.name for t in node.outputs if t.name]
                self.names.update(made)
                self._nodes += made[:1]
                if node.op in REPRODUCIBLE and self._reproducible.issuperset(reads):
                    self._reproducible.update(made)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The keys of the nodes that compute constants, in file order."""
        return tuple(self._nodes)

    def __contains__(self, tensor: str) -> bool:
        return self._graph.source(tensor) in self.names

    def reproducible(self, tensor: str) -> bool:
        """Whether the tensor is a constant whose bits do not depend on the implementation: every operator upstream
        moves, compares, or rounds once."""
        return self._graph.source(tensor) in self._reproducible

    def path(self, tensor: str, known: Collection[str] = ()) -> tuple[gs.Node, ...]:
        """The nodes that compute a constant, in file order, without those upstream of the tensors `known`; empty for an
        initializer and for a tensor that is not constant."""
        pending, seen, found = [tensor], set[str](), dict[int, gs.Node]()
        while pending:
            name = pending.pop()
            if name in seen or name in known:
                continue
            seen.add(name)
            node = self._graph.producer(name) if name in self.names and name not in self._graph.initializers else None
            if node is not None:
                found[self._graph.position(node)] = node
                pending += self.reads(node)
        return tuple(found[position] for position in sorted(found))

    def value(self, tensor: str, given: dict[str, np.ndarray] | None = None) -> np.ndarray | None:
        """The value of a constant, with its shape and type, computed on demand in linear time.

        Q and DQ round as `Quantization` does, all other operators as `onnx.reference` does.

        Args:
            tensor: its name.
            given: values that replace those of constants upstream; small ones that follow from them are added.

        Returns:
            The array; it is shared: copy it before you change it. None if the tensor is not constant, has more than
            `LARGEST` elements, its external data cannot be read, or an operator upstream cannot be computed.
        """
        known = self._values if given is None else given
        if tensor in known:
            return known[tensor]
        if (source := self._graph.source(tensor)) != tensor:
            array = self.value(source, given)
            return None if array is None else self._as_read(tensor, array)
        if tensor not in self.names:
            return None
        if (stored := self._stored(tensor)) is not None:
            self._cache(tensor, stored, known)
            return stored
        nodes = self.path(tensor, known)
        local: dict[str, np.ndarray | None] = {}
        last = {name: node for node in nodes for name in self.reads(node)}
        for node in nodes:
            reads = self.reads(node)
            local |= self._outputs(node, {name: self._read(name, local, known) for name in reads})
            for name in reads:
                if last[name] is node:  # the memory of large values is free again
                    self._cache(name, local.pop(name, None), known)
        array = self._read(tensor, local, known)
        self._cache(tensor, array, known)
        if given is None and array is not None:
            self._recent = keep_recent(known, self._recent, tensor, array)
        return array

    def _stored(self, tensor: str) -> np.ndarray | None:
        """The value of an initializer, or of a Constant node; None for other tensors, and if it cannot be read."""
        initializer = self._graph.initializers.get(tensor)
        if initializer is not None:
            return array_of(initializer, self._graph.folder)
        node = self._graph.producer(tensor)
        if node is None or node.op != "Constant":
            return None
        return constant_value(self._graph.proto(node), self._graph.folder)

    def _cache(self, name: str, array: np.ndarray | None, known: dict[str, np.ndarray]) -> None:
        if array is not None and array.size <= SMALL:
            known[name] = array

    def _read(
        self, name: str, local: Mapping[str, np.ndarray | None], known: Mapping[str, np.ndarray | None]
    ) -> np.ndarray | None:
        for table in (local, known):
            if name in table:
                return table[name]
        return self._stored(name)

    def _outputs(self, node: gs.Node, inputs: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
        """The values of a node's outputs, by name; None for each that cannot be computed."""
        names = [t.name for t in node.outputs if t.name]
        proto = self._graph.proto(node)
        found: Mapping[str, np.ndarray | None] = {}
        captured = [name for name, reader in self._graph.captures if reader.node is node]
        arrays = {
            name: self._as_read(name, array)  # in the type that the file has here
            for name in (*filter(None, proto.input), *captured)
            if (array := inputs.get(self._graph.source(name))) is not None
        }
        if node.op == "Constant":
            found = {names[0]: self._stored(names[0])}
        elif all(a is not None for a in inputs.values()) and not any(self._huge(name) for name in names):
            with np.errstate(all="ignore"):
                paired = _paired(node, [arrays.get(name) for name in proto.input])
                found = computed(proto, arrays, self._graph.opset) if paired is None else {names[0]: paired}
        return {name: found.get(name) for name in names}

    def _as_read(self, tensor: str, array: np.ndarray) -> np.ndarray:
        """The value of a tensor, given that of its source."""
        return converted(self._graph.model, self._graph.casts, tensor, array)

    def _huge(self, tensor: str) -> bool:
        shape = self._graph.shape(tensor)
        return shape is not None and math.prod(d or 1 for d in shape) > LARGEST

    def reads(self, node: gs.Node) -> list[str]:
        """The tensors that a node and its subgraphs read, once each."""
        read = [t.name for t in node.inputs if t.name]
        return list(dict.fromkeys([*read, *self._captured.get(id(node), ())]))

    def _random(self, node: gs.Node) -> bool:
        """Whether the result may differ between runs: a random operator, a Dropout in training, or one in a
        subgraph."""
        if node.op == "Dropout":
            training = node.inputs[2].name if len(node.inputs) > 2 else ""
            return bool(training) and ((value := self.value(training)) is None or bool(np.any(value)))
        inner = (n for value in node.attrs.values() if isinstance(value, gs.Graph) for n in value.nodes)
        return node.op in RANDOM or any(not is_standard(n) or self._random(n) for n in inner)


def keep_recent(known: dict[str, np.ndarray], last: str, tensor: str, array: np.ndarray) -> str:
    """Keeps a value, from which the next one of a chain follows, in place of the `last` one that was kept so: larger
    values than `SMALL` are not all cached. Returns the tensor whose value is kept."""
    if not SMALL < array.size <= RECENT:
        return last
    known.pop(last, None)
    known[tensor] = array
    return tensor


def constants(graph: Graph) -> Constants:
    """The graph's constants, found once."""
    return graph.once(Constants)


def _paired(node: gs.Node, inputs: list[np.ndarray | None]) -> np.ndarray | None:
    """The result of a QuantizeLinear or DequantizeLinear of whole-byte integers; None for any other node."""
    if node.op not in ("QuantizeLinear", "DequantizeLinear") or any(
        node.attrs.get(name) for name in ("block_size", "output_dtype", "precision")
    ):
        return None
    array, scale, zero_point = (*inputs, None)[:3]
    if array is None or scale is None:
        return None
    if zero_point is None:
        zero_point = np.zeros((), np.uint8 if node.op == "QuantizeLinear" else array.dtype)
    own = Quantization(scale, zero_point, int(node.attrs.get("axis", 1)))
    if zero_point.dtype.kind not in "iu" or scale.ndim > 1 or zero_point.size > scale.size or not own.fits(array):
        return None
    return own.quantize(array) if node.op == "QuantizeLinear" else own.dequantize(array)
