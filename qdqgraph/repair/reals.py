"""Floating-point types in a draft: which type each tensor has, and under which name it exists in another type.

Only models with FP16 or BF16 tensors need it; in all others every tensor keeps its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..graph.casts import REAL, has_half
from ..graph.graph import Graph
from ..model.protos import element_types, is_standard, version
from ..operators import PAIRS

HALF_SCALES = 19
"""The first opset whose Q and DQ accept FP16 and BF16: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html"""


class Reals:
    """The floating-point types of a draft's tensors.

    Args:
        graph: the graph that the draft changes; None if there is none.
    """

    def __init__(self, graph: Graph | None) -> None:
        self._graph = graph if graph is not None and has_half(graph.model) else None
        self._kinds: dict[str, int] = {} if self._graph is None else element_types(self._graph.model)
        self._arrays: dict[str, np.ndarray] = {}
        self._casts: dict[tuple[str, int], str] = {}
        if self._graph is not None:
            for made, source in self._graph.casts.items():
                self._casts.setdefault((source, self._kinds[made]), made)

    def kind(self, tensor: str) -> int | None:
        """The floating-point type of a tensor; None for any other type, or if it need not be known."""
        kind = self._kinds.get(tensor)
        return kind if self._graph is not None and kind in REAL else None

    def named(self, tensor: str, kind: int | None) -> str | None:
        """The name of a tensor in a floating-point type; None if it does not exist in that type.

        The tensor itself if its type, or the wanted type, is not a floating-point type.
        """
        if self._graph is None or kind not in REAL or self.kind(tensor) in (kind, None):
            return tensor
        source = self._graph.source(tensor)
        if self.kind(source) == kind:
            return source
        return self._casts.get((tensor, kind)) or self._casts.get((source, kind))

    def constant(self, tensor: str, kind: int) -> np.ndarray | None:
        """The value of an initializer in a floating-point type; None for any other tensor."""
        assert self._graph is not None
        array = self._arrays.get(tensor)
        if array is None and tensor in self._graph.initializers:
            array = self._graph.array(tensor)
        return None if array is None else array.astype(helper.tensor_dtype_to_np_dtype(kind))

    def add(self, tensor: str, kind: int, *, of: str = "", array: np.ndarray | None = None) -> None:
        """Notes a new tensor.

        Args:
            tensor: its name.
            kind: its element type.
            of: the tensor that it is in another type.
            array: its value if it is an initializer.
        """
        self._kinds[tensor] = kind
        if of:
            self._casts[of, kind] = tensor
        if array is not None and self._graph is not None and kind in REAL:
            self._arrays[tensor] = array

    def names_read(self, nodes: Iterable[onnx.NodeProto]) -> Mapping[str, str]:
        """Tensors that nodes read through a Cast, and through that one only, with its output: nodes that replace them
        compute in the same type."""
        found: dict[str, set[str]] = {}
        if self._graph is not None:
            for name in (name for node in nodes for name in node.input if name):
                found.setdefault(self._graph.source(name), set()).add(name)
        return {source: names.pop() for source, names in found.items() if len(names) == 1 and source not in names}

    def wanted(self, node: onnx.NodeProto, before: onnx.NodeProto | None) -> Iterator[tuple[int, int]]:
        """The inputs of a new node that must be read in one type, with that type; nothing if ONNX leaves it open.

        A QuantizeLinear reads the type of its scale, which is FP32 before opset 19. Inputs of one type variable have
        the type that the node read before, else that of the first one that is no initializer.

        Args:
            node: the new node.
            before: the node that it replaces under the same name; None if there is none.
        """
        if self._graph is None or not is_standard(node):
            return
        if node.op_type in PAIRS:
            kind = self.kind(node.input[1])
            if kind is not None and version(self._graph.model) < HALF_SCALES:
                kind = TensorProto.FLOAT
                yield 1, kind
            if kind is not None and node.op_type == "QuantizeLinear":
                yield 0, kind
            return
        for slots in self._groups(node).values():
            kinds = {i: kind for i in slots if (kind := self.kind(node.input[i])) is not None}
            if not kinds:
                continue
            same = before is not None and before.op_type == node.op_type
            old = [self.kind(before.input[i]) for i in kinds if i < len(before.input)] if same and before else []
            data = [kind for i, kind in kinds.items() if node.input[i] not in self._arrays]
            wanted = next((kind for kind in (*old, *data, *kinds.values()) if kind is not None), None)
            if wanted is not None:
                yield from ((i, wanted) for i in kinds)

    def made(self, node: onnx.NodeProto) -> Mapping[str, int]:
        """The floating-point types of a new node's outputs, as far as ONNX defines them."""
        if self._graph is None or not is_standard(node) or node.op_type == "QuantizeLinear":
            return {}
        if node.op_type in ("DequantizeLinear", "Cast"):
            to = next((int(a.i) for a in node.attribute if a.name in ("to", "output_dtype") and a.i), None)
            kind = self.kind(node.input[1]) if node.op_type == "DequantizeLinear" and to is None else to
            return {node.output[0]: kind} if kind in REAL and kind is not None else {}
        schema = self._schema(node)
        if schema is None or not schema.outputs:
            return {}
        bound = {name: self.kind(node.input[slots[0]]) for name, slots in self._groups(node).items()}
        formals = [schema.outputs[min(i, len(schema.outputs) - 1)].type_str for i in range(len(node.output))]
        found = {name: bound.get(formal) for name, formal in zip(node.output, formals, strict=True) if name}
        return {name: kind for name, kind in found.items() if kind is not None}

    def _groups(self, node: onnx.NodeProto) -> dict[str, list[int]]:
        """The floating-point inputs of a node by type variable of the operator."""
        schema = self._schema(node)
        found: dict[str, list[int]] = {}
        for index, name in enumerate(node.input if schema is not None and schema.inputs else ()):
            assert schema is not None
            variable = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
            if name and not variable.startswith("tensor(") and self.kind(name) is not None:
                found.setdefault(variable, []).append(index)
        return found

    def _schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
        assert self._graph is not None
        opset = version(self._graph.model)
        known = onnx.defs.has(node.op_type, opset)
        return onnx.defs.get_schema(node.op_type, opset) if known else None


def type_name(kind: int) -> str:
    """The name of an element type in tensor names: "float32", "float16", "bfloat16"."""
    return str(helper.tensor_dtype_to_np_dtype(kind))
