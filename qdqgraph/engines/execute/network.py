"""`Network`: nodes and constants added to a copy of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...calibration.inputs import model_inputs
from ...calibration.statistics.floating import CONSTANT_INITIALIZERS
from ...model.protos import fresh, names, refill

FLOAT = TensorProto.FLOAT


class Network:
    """A copy of a model that grows; nothing is computed twice.

    Attributes:
        model: the copy; its own nodes keep their names. The new nodes are added by `finish`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.model.ir_version = max(self.model.ir_version, CONSTANT_INITIALIZERS)
        refill(self.model.graph.input, model_inputs(model))
        self._taken = set(names(self.model.graph))
        self._made: dict[tuple[Any, ...], str] = {}
        self._new: list[onnx.NodeProto] = []

    def name(self, wanted: str) -> str:
        """An unused name."""
        return fresh(wanted, self._taken)

    def add(self, node: onnx.NodeProto) -> None:
        """Adds a node whose outputs have unused names."""
        self._new.append(node)

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """The output of a standard operator with one output."""
        asked = (op, *inputs, repr(sorted(attributes.items())))
        if asked not in self._made:
            self._made[asked] = self.name(f"engine/{op}/{inputs[0]}")
            self._new.append(helper.make_node(op, list(inputs), [self._made[asked]], **attributes))
        return self._made[asked]

    def constant(self, array: np.ndarray, wanted: str) -> str:
        """A new constant."""
        array = np.asarray(array)
        asked = (
            ("", array.dtype.str, array.shape, array.tobytes()) if array.size < 2 else ("", id(array), self.name(""))
        )
        if asked not in self._made:
            self._made[asked] = self.name(f"engine/{wanted}")
            tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), self._made[asked])
            self.model.graph.initializer.append(tensor)
        return self._made[asked]

    def cast(self, tensor: str, kind: int) -> str:
        """A tensor in another type."""
        return self.node("Cast", [tensor], to=kind)

    def rounded(self, tensor: str, kind: int) -> str:
        """An FP32 tensor, rounded to a 16-bit type and back."""
        return self.cast(self.cast(tensor, kind), FLOAT)

    def finish(self, outputs: dict[str, int]) -> onnx.ModelProto:
        """The model with these outputs, by their element types; 0 if unknown."""
        self.model.graph.node.extend(self._new)
        self._new = []
        infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
        refill(self.model.graph.output, infos)
        del self.model.graph.value_info[:]
        return self.model
