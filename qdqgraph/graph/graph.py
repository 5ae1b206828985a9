"""`Graph`: a read-only, indexed view of an ONNX model.

Navigation is onnx-graphsurgeon's: nodes are `gs.Node`, tensors `gs.Tensor`, as TensorRT users know them. This
module only adds lookups in O(1) for rules: producers, readers, constant values, shapes. Tensors are addressed by
name and nodes by `key` (the name of their first output), because ONNX node names are optional and may repeat.
The view is read-only: a rule proposes changes (`proposals`), and only a plan applies them.

The input and the output of a Cast between floating-point types are one tensor in two types: the view leaves such Casts
out (`casts`), so a half-precision model looks like its FP32 twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..model import shapes
from ..model.dims import Shapes
from ..model.functions import Function, Keeps, inlined, none
from ..model.protos import is_standard, version
from ..model.validate import validate
from ..operators import PAIRS
from ..targets.target import Target
from .casts import between_reals, has_half
from .constants import Constants
from .imported import captured
from .loaded import Loaded

K = TypeVar("K")
T = TypeVar("T")
LARGEST = 1 << 50
"""Elements, or bytes, of the largest tensor that is counted; in damaged files, dimensions have larger products."""
INITIALIZERS = 4
"""The first IR version in which an initializer need not be an input of the graph."""
INDEXES = ("_by_op", "_constant", "_producers", "_readers", "captures", "depth")
"""The attributes that a graph can make again from its nodes."""
Node: TypeAlias = gs.Node
"""onnx-graphsurgeon's node, for signatures in rule files."""


@dataclass(frozen=True, eq=False, slots=True)
class Reader:
    """One input of one node. `index` is -1 if a subgraph of the node captures the tensor."""

    node: gs.Node
    index: int

    @property
    def key(self) -> tuple[str, int]:
        """The node's key and the index: how edits name this input."""
        return key(self.node), self.index


def key(node: gs.Node) -> str:
    """The name of the node's first named output: unique in a graph, unlike the node's own name."""
    for tensor in node.outputs:
        name: str = tensor.name
        if name:
            return name
    return ""


def input_name(node: gs.Node, index: int) -> str:
    """The tensor at an input of a node; empty if the node has no such input, or leaves it out."""
    return str(node.inputs[index].name) if index < len(node.inputs) else ""


def label(node: gs.Node) -> str:
    """What to call a node in a message: its name, else its operator and key."""
    return str(node.name) or f"{node.op}({key(node)})"


class Graph(Loaded):
    """An indexed view of `model`.

    Args:
        model: the model; must not be changed while the view is in use.
        folder: the folder of the model's file, which contains its external data.
        known: an earlier view of the same network; its shapes are reused, because repairs change none; not
            in a half-precision model, where the types of new tensors decide what a Cast converts, nor below IR
            version 4, where new constants are nodes.
        target: the TensorRT generation that the model is for.

    Raises:
        ModelError: the graph cannot be imported, or is not a valid model (see `model.validate`).
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path | None = None,
        *,
        known: Graph | None = None,
        target: Target | None = None,
    ) -> None:
        if known is None:
            validate(model)
        super().__init__(model)
        self.functions: tuple[Function, ...] = ()
        self.target: Target = target or (known.target if known is not None else Target.named())
        same = known is not None and not has_half(model) and model.ir_version >= INITIALIZERS
        self._known_types = known._types if known is not None and same else None
        self.folder = folder or Path()
        self._memo: dict[object, object] = {}
        self._leave_out(between_reals(model, self._named, self.dtype))

    def source(self, tensor: str) -> str:
        """The tensor itself, or the one that it is in another floating-point type (see `casts`)."""
        return self.casts.get(tensor, tensor)

    @classmethod
    def opened(
        cls, model: onnx.ModelProto, folder: Path | None = None, *, target: Target | None = None, keeps: Keeps = none
    ) -> Graph:
        """A view with the nodes of local functions in place of their calls, and the functions as `functions`.

        Its model is then a new one.

        Args:
            keeps: whether the function of a domain and name stays, because rules handle its calls.

        Raises:
            ModelError: as `Graph`; or a function with Q/DQ cannot be inlined.
        """
        new, functions = inlined(model, keeps)
        graph = cls(new, folder, target=target)
        graph.functions = functions
        return graph

    def aimed_at(self, target: Target) -> Graph:
        """The same graph for another TensorRT generation. It shares the results of `once`, which must not depend on the
        target."""
        other = self._copied()
        other.target = target
        return other

    def sized(self, inputs: Shapes) -> Graph:
        """The same graph with other shapes of its inputs; itself without any. What it has found so far stays as it is.

        Raises:
            ModelError: the model has no such input, or a shape contradicts its own.
        """
        if not inputs:
            return self
        other = self._copied()
        other._memo, other._known_types, other._types = dict(self._memo), None, shapes.infer(self.model, inputs)
        return other

    def _copied(self) -> Graph:
        """A view with the same nodes."""
        _ = self.gs
        return copy(self)

    @property
    def opset(self) -> int:
        """Version of the standard opset."""
        return version(self.model)

    # Nodes

    def nodes(self, *ops: str) -> tuple[gs.Node, ...]:
        """All nodes in file order, or those of the named operators of the standard domain."""
        if not ops:
            return self._named
        found = [n for op in ops for n in self._by_op.get(op, ())]
        return tuple(found) if len(ops) == 1 else tuple(sorted(found, key=self.position))

    @cached_property
    def _by_op(self) -> dict[str, list[gs.Node]]:
        index: dict[str, list[gs.Node]] = {}
        for node in self._named:
            if is_standard(node):
                index.setdefault(node.op, []).append(node)
        return index

    # Tensors

    @cached_property
    def _producers(self) -> dict[str, gs.Node]:
        return self._seen_through({t.name: n for n in self._named for t in n.outputs if t.name})

    @cached_property
    def _readers(self) -> dict[str, tuple[Reader, ...]]:
        index: dict[str, list[Reader]] = {}
        for node in self._named:
            for i, tensor in enumerate(node.inputs):
                if tensor.name:
                    index.setdefault(tensor.name, []).append(Reader(node, i))
        for name, reader in self.captures:
            index.setdefault(self.source(name), []).append(reader)
        return self._seen_through({name: tuple(found) for name, found in index.items()})

    def _seen_through(self, index: dict[str, T]) -> dict[str, T]:
        """An index by tensor, in which an output of a Cast in `casts` has what its source has."""
        if not self.casts:
            return index
        seen = {name: index[source] for name, source in self.casts.items() if source in index}
        return {name: found for name, found in index.items() if name not in self.casts} | seen

    @cached_property
    def captures(self) -> tuple[tuple[str, Reader], ...]:
        """Tensors that subgraphs (If, Loop, Scan) read from outside, as in the file, with the node of the subgraph."""
        return tuple((name, Reader(node, -1)) for node in self._named for name in captured(node))

    @cached_property
    def inputs(self) -> frozenset[str]:
        """Names of the graph's inputs, without initializers."""
        return frozenset(t.name for t in self.gs.inputs)

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs; for one that a Cast in `casts` converts, the name of the tensor before it."""
        return frozenset(self.source(t.name) for t in self.gs.outputs)

    def node(self, key: str) -> gs.Node:
        """The node that produces the tensor `key`.

        Raises:
            KeyError: no node produces it.
        """
        return self._producers[key]

    def producer(self, tensor: str) -> gs.Node | None:
        """The node that produces the tensor; None for inputs and initializers."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> tuple[Reader, ...]:
        """Every node input that reads the tensor, in file order, including captures by subgraphs."""
        return self._readers.get(tensor, ())

    # Constants

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """Initializers by name."""
        return {i.name: i for i in self.model.graph.initializer}

    def is_constant(self, tensor: str) -> bool:
        """Whether the tensor is computed from initializers and Constants only, by deterministic operators (see
        `graph.constants`)."""
        return tensor in self._constant

    @cached_property
    def _constant(self) -> Collection[str]:
        names = self.once(Constants).names
        return {*names, *(n for n, s in self.casts.items() if s in names)} if self.casts else names

    def value(self, tensor: str) -> np.ndarray | None:
        """The value of a constant, with its shape and type; operators upstream of it are computed.

        Returns None if it is not constant, its external data cannot be read, or it cannot be computed. The array is
        shared: copy it before you change it.
        """
        return self.once(Constants).value(tensor)

    def array(self, tensor: str) -> np.ndarray | None:
        """The same as `value`: a constant with its shape."""
        return self.value(tensor)

    def is_reproducible(self, tensor: str) -> bool:
        """Whether the tensor is a constant that every implementation computes bit for bit alike: a sum of many products
        depends on its order, a move or a single rounding does not."""
        return self.once(Constants).reproducible(tensor)

    # Shapes

    @cached_property
    def _types(self) -> dict[str, tuple[int, tuple[int | None, ...] | None]]:
        return shapes.infer(self.model) if self._known_types is None else self._known_types

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Dimensions, None for a dynamic or unknown one; None if the rank is unknown (custom operators, bad shapes)."""
        found = self._stored.get(tensor) or self._types.get(tensor)
        return found[1] if found else None

    def dtype(self, tensor: str) -> int | None:
        """The `onnx.TensorProto` data type; None if unknown."""
        found = self._stored.get(tensor) or self._types.get(tensor)
        return found[0] if found else None

    @cached_property
    def _stored(self) -> dict[str, tuple[int, tuple[int | None, ...]]]:
        """Types and dimensions of initializers, which an earlier view may lack; empty if there is no earlier view."""
        if self._known_types is None:
            return {}
        return {name: (tensor.data_type, tuple(tensor.dims)) for name, tensor in self.initializers.items()}

    def elements(self, tensor: str) -> int:
        """Number of elements, with batch 1 if it is dynamic; 0 if another dimension is unknown, or beyond `LARGEST`."""
        shape = self.shape(tensor)
        if shape is None or None in shape[1:]:
            return 0
        found = math.prod(d or 1 for d in shape)
        return found if found <= LARGEST else 0

    # Computed once

    def once(self, compute: Callable[[Graph], T]) -> T:
        """`compute(self)`, computed once per graph: for tables that several rules share."""
        try:
            return self._memo[compute]  # type: ignore[return-value]
        except KeyError:
            found = self._memo[compute] = compute(self)
            return found

    def known(self, function: Callable[[Graph, K], T]) -> dict[K, T]:
        """What a function has found of this graph, by its argument: empty at first, and filled by the function."""
        return self._memo.setdefault(function, {})  # type: ignore[return-value]

    def forget(self) -> None:
        """Frees all tables: what `once` and `known` keep, and the indexes. They are made again when they are needed."""
        self._memo.clear()
        for name in INDEXES:
            self.__dict__.pop(name, None)

    def keep(self, *tables: Callable[[Graph], object]) -> None:
        """Frees what `once` and `known` keep, but for the tables of these functions, and the index of depths."""
        kept: dict[object, object] = {name: self._memo[name] for name in tables if name in self._memo}
        self._memo.clear()
        self._memo.update(kept)
        self.__dict__.pop("depth", None)

    def release(self) -> None:
        """Frees the nodes as well, of a graph that is kept for its model; they are read again when they are needed.

        Nodes that were taken from it before, and other views of the same graph, must not be used any more.
        """
        self.forget()
        self._unload()

    @cached_property
    def depth(self) -> dict[str, int]:
        """For each tensor, the number of nodes on the longest path to it from an input, without Constant, Identity, Q
        and DQ."""
        depth: dict[str, int] = {}
        free = PAIRS | {"Constant", "Identity"}
        for node in self._named:
            below = max([depth.get(t.name, 0) for t in node.inputs], default=0)
            for t in node.outputs:
                depth[t.name] = below + (node.op not in free)
        return depth
