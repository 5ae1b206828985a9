"""`replace` and `insert_before`, with which Python rules replace and insert nodes, and functions that create such
nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from ..errors import NameClashError, ProposalError
from ..graph.graph import Graph, key
from ..model.protos import nested
from ..model.writing.spill import tensor_of
from .proposal import Graft, NodeInput, Rewire


def replace(nodes: Sequence[gs.Node], by: Sequence[onnx.NodeProto], *, unread: Sequence[gs.Node] = ()) -> Graft:
    """A proposal to replace `nodes` by new nodes.

    Args:
        nodes: the nodes to remove; `by` must produce, under the same names, every output of them that other nodes read.
        by: the new nodes, in order. A Constant becomes an initializer. Names of outputs that `nodes` do not have are
            made unique.
        unread: upstream nodes that are removed too if nothing else reads them.

    Raises:
        NameClashError: two of the new nodes produce one tensor.
    """
    _produced_once(by)
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


def insert_before(reader: NodeInput, by: Sequence[onnx.NodeProto], *more: NodeInput) -> Graft:
    """A proposal to insert nodes before one node input, or several, which then read the last one's output; other
    readers of the tensor are not affected.

    Args:
        reader: the node input.
        by: the new nodes, in order; each produces one tensor, whose name is made unique.
        more: other node inputs that read the same tensor.

    Raises:
        ProposalError: there is no new node, or two of them produce one tensor.
    """
    if not by:
        raise ProposalError("insert_before has no node to insert")
    _produced_once(by)
    readers = (reader, *more)
    data = tuple(node.SerializeToString(deterministic=True) for node in by)
    fresh = tuple(node.output[0] for node in by)
    return Graft(data, tuple(range(len(by))), fresh, (), (), tuple(Rewire(r, fresh[-1]) for r in readers), readers)


def _produced_once(by: Sequence[onnx.NodeProto]) -> None:
    seen = set[str]()
    for name in (name for node in by for name in node.output if name):
        if name in seen:
            raise NameClashError(name)
        seen.add(name)


def make_constant(name: str, array: np.ndarray) -> onnx.NodeProto:
    """A Constant node for `replace`, which stores it as an initializer of that name."""
    return helper.make_node("Constant", [], [name], value=tensor_of(np.asarray(array)))


def make_dequantize(
    name: str, integers: str, scale: np.ndarray, zero_point: np.ndarray, axis: int
) -> list[onnx.NodeProto]:
    """A DequantizeLinear that produces the tensor `name`, for `replace`, preceded by its own constants.

    Args:
        integers: the tensor that it reads.
        scale, zero_point: one value, or one per channel in any shape; a single value is broadcast over the other's
            channels.
        axis: the axis of the channels; ignored for one scale.
    """
    count = max(scale.size, zero_point.size)
    shape = (count,) if count > 1 else ()
    both = [np.broadcast_to(a.reshape(-1), (count,)).reshape(shape) for a in (scale, zero_point)]
    own = [f"{name}_scale", f"{name}_zero_point"]
    nodes = [make_constant(n, a) for n, a in zip(own, both, strict=True)]
    return [*nodes, make_node("DequantizeLinear", [integers, *own], name, axis=axis if shape else None)]


def attributes(graph: Graph, node: gs.Node, *leave: str) -> list[onnx.AttributeProto]:
    """The node's attributes in the file, without those named in `leave`."""
    return [a for a in graph.proto(node).attribute if a.name not in leave]


def inner_nodes(graph: Graph, node: gs.Node) -> Iterator[onnx.NodeProto]:
    """The nodes of the subgraphs of an If, Loop or Scan, as in the file; none for other operators."""
    return islice(nested(graph.proto(node)), 1, None) if node.attrs else iter(())


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
    """A node of the standard domain, for `replace`, without trailing empty inputs. `block_size` is an attribute of
    DequantizeLinear, `perm` of Transpose, `to` of Cast."""
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
