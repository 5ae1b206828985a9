"""`Loaded`: the nodes of a model as onnx-graphsurgeon has them, which can be freed and are then read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from ..errors import ModelError
from ..model.heap import trim
from .casts import left_out
from .imported import dissolve, distinguish, imported

READ = ("gs", "_named", "_positions")
"""The attributes that are read from the model."""


class Loaded:
    """The nodes of `model`, which must not be changed.

    Raises:
        ModelError: the graph cannot be imported.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self._protos = model, model.graph.node
        self.casts: dict[str, str] = {}
        """Outputs of the Casts that the view leaves out → the tensor that they convert, seen through such Casts."""
        self._load()

    def _load(self) -> None:
        try:
            with G_LOGGER.suppress():  # its warnings, of types that numpy lacks, would go to stdout
                self.gs: gs.Graph = imported(self.model)
        except Exception as error:
            raise ModelError(f"onnx-graphsurgeon cannot import the graph: {error}") from error
        distinguish(self.gs)
        self._positions = {id(n): i for i, n in enumerate(self.gs.nodes)}
        # nothing can read or name a node without an output
        self._named = tuple(n for n in self.gs.nodes if any(t.name for t in n.outputs))
        self._leave_out(self.casts)

    def _leave_out(self, casts: dict[str, str]) -> None:
        """Leaves these Casts out of the view."""
        self.casts = casts
        if casts:
            self._named = left_out(self._named, casts)

    def _unload(self) -> None:
        if "gs" in self.__dict__:
            dissolve(self.gs)
            for name in READ:
                del self.__dict__[name]
            trim()  # what is made next needs blocks of other sizes

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> object:
            """Reads the nodes again."""
            if name not in READ or "casts" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self._load()
            return self.__dict__[name]

    def position(self, node: gs.Node) -> int:
        """The node's index in the file; ONNX files are topologically sorted."""
        return self._positions[id(node)]

    def proto(self, node: gs.Node) -> onnx.NodeProto:
        """The node's `onnx.NodeProto` in the file; must not be changed."""
        return self._protos[self._positions[id(node)]]
