"""`replace` and `insert_before`: what a Python rule proposes where nodes take others' place, or come in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper, numpy_helper

from ..graph.graph import Graph, key
from .proposal import Graft, NodeInput, Rewire


def replace(nodes: Sequence[gs.Node], by: Sequence[onnx.NodeProto], *, unread: Sequence[gs.Node] = ()) -> Graft:
    """New nodes in the place of `nodes`.

    Args:
        nodes: the nodes that go; whatever else reads of their outputs, `by` makes under the same name.
        by: the new nodes, in order. A Constant becomes an initializer. What they make beside the outputs of `nodes` is
            new, and its names are made unique.
        unread: nodes in front that go too, where nothing else reads them.
    """
    made = dict.fromkeys(name for node in by for name in node.output if name)
    kept = {t.name for n in nodes for t in n.outputs}
    reads = [(key(n), i) for n in (*nodes, *unread) for i, t in enumerate(n.inputs) if t.name]
    return Graft(
        tuple(n.SerializeToString(deterministic=True) for n in by),
        tuple(range(len(by))),
        tuple(name for name in made if name not in kept),
        tuple(key(n) for n in nodes),
        tuple(key(n) for n in unread),
        (),
        tuple(reads),
    )


def insert_before(reader: NodeInput, by: Sequence[onnx.NodeProto]) -> Graft:
    """New nodes whose last one this node input alone reads; what it read before may have other readers.

    Args:
        by: the new nodes, in order; each makes one tensor, whose name is made unique.
    """
    data = tuple(node.SerializeToString(deterministic=True) for node in by)
    fresh = tuple(node.output[0] for node in by)
    return Graft(data, tuple(range(len(by))), fresh, (), (), (Rewire(reader, fresh[-1]),), (reader,))


def make_constant(name: str, array: np.ndarray) -> onnx.NodeProto:
    """A Constant node for `replace`, which stores it as an initializer of that name."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))


def make_dequantize(
    name: str, integers: str, scale: np.ndarray, zero_point: np.ndarray, axis: int
) -> list[onnx.NodeProto]:
    """A DequantizeLinear that makes the tensor `name`, for `replace`, with constants of its own in front.

    Args:
        integers: the tensor that it reads.
        scale, zero_point: one number, or one for each channel in any shape; the one of two that is alone is spread
            over the other's channels.
        axis: the axis of the channels; of no meaning where there is one scale.
    """
    count = max(scale.size, zero_point.size)
    shape = (count,) if count > 1 else ()
    both = [np.broadcast_to(a.reshape(-1), (count,)).reshape(shape) for a in (scale, zero_point)]
    own = [f"{name}_scale", f"{name}_zero_point"]
    nodes = [make_constant(n, a) for n, a in zip(own, both, strict=True)]
    return [*nodes, make_node("DequantizeLinear", [integers, *own], name, axis=axis if shape else None)]


def attributes(graph: Graph, node: gs.Node, *leave: str) -> list[onnx.AttributeProto]:
    """The node's attributes as the file has them, without those named."""
    return [a for a in graph.proto(node).attribute if a.name not in leave]


def make_node(
    op: str,
    inputs: Sequence[str],
    outputs: str | Sequence[str],
    attributes: Sequence[onnx.AttributeProto] = (),
    *,
    axis: int | None = None,
    block_size: int | None = None,
    perm: Sequence[int] | None = None,
    to: np.dtype[Any] | None = None,
) -> onnx.NodeProto:
    """A node of the standard domain, for `replace`; trailing empty inputs are left out. `block_size` is that of a
    DequantizeLinear, `perm` that of a Transpose, `to` that of a Cast."""
    names = list(inputs)
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(
        op, names, [outputs] if isinstance(outputs, str) else list(outputs), axis=axis, block_size=block_size, perm=perm
    )
    if to is not None:
        node.attribute.append(helper.make_attribute("to", helper.np_dtype_to_tensor_dtype(to)))
    node.attribute.extend(attributes)
    return node
