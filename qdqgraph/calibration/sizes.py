"""Sizes for the dynamic dimensions of a model's inputs: one for each name, fixed by what reads it where possible."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ..graph.channels import groups_of
from ..graph.graph import Graph, Reader, key
from ..graph.pair import is_pair
from ..operators import CONVOLUTIONS, ELEMENTWISE, RECURRENT, WEIGHTED
from .inputs import model_inputs

IMAGE = 224
"""A dynamic height or width of an image; divisible by 32, which detectors need."""
SEQUENCE = 16
"""Any other dynamic dimension except the batch, which is 1."""
COLORS = 3
"""The channels of an image if the file does not tell them."""
REACH = 64
"""Number of nodes searched downstream of an input for one that fixes a size."""

Sizes = Mapping[str, int]
"""The size of each dynamic dimension, by its name, or by input and axis where it has none."""


@dataclass(frozen=True)
class Dimension:
    """A dynamic dimension.

    Attributes:
        name: its name in the file; "input:axis" if it has none.
        size: the size to try first.
        kind: fixed (a constant that reads the input determines it), batch, channels, image (a height or width),
            sequence, or vector (the only dimension of an input).
    """

    name: str
    size: int
    kind: str


def dimensions(graph: Graph) -> tuple[Dimension, ...]:
    """Returns the dynamic dimensions of the inputs, each name once. Dimensions that are sums or products of others, as
    in "past + sequence", are not listed: they follow."""
    inputs = model_inputs(graph.model)
    plain = {name for info in inputs for name in _named(info) if isinstance(name, str)}
    seen: dict[str, list[tuple[int, Dimension]]] = {}
    for info in inputs:
        names = _named(info)
        known = dict(_fixed(graph, info.name, len(names))) if any(isinstance(n, str) for n in names) else {}
        for axis, name in enumerate(names):
            if isinstance(name, str) and not _follows(name, plain):
                found = _dimension(graph, info.name, names, axis, name, known)
                seen.setdefault(name, []).append((_weight(found, axis, names), found))
    return tuple(min(found, key=lambda f: f[0])[1] for found in seen.values())


def shape_of(info: onnx.ValueInfoProto, sizes: Sizes) -> list[int]:
    """Returns the shape of an input with `sizes` in place of its dynamic dimensions; `SEQUENCE` if one is unknown."""
    return [name if isinstance(name, int) else _evaluated(name, sizes) for name in _named(info)]


def sizes_in(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> Sizes:
    """Returns the sizes of the dynamic dimensions in a sample of the inputs."""
    given = ((info, feed[info.name].shape) for info in model_inputs(model) if info.name in feed)
    both = (each for info, shape in given for each in zip(_named(info), shape, strict=False))
    return {name: size for name, size in both if isinstance(name, str)}


def sized(model: onnx.ModelProto, sizes: Sizes) -> onnx.ModelProto:
    """Returns the model with these input shapes, and without other declared shapes; the model itself if none is
    dynamic."""
    if not any(isinstance(name, str) for info in model_inputs(model) for name in _named(info)):
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    del new.graph.value_info[:]
    for info in model_inputs(new):
        for dimension, size in zip(info.type.tensor_type.shape.dim, shape_of(info, sizes), strict=True):
            dimension.dim_value = size
    for info in new.graph.output:
        info.type.tensor_type.ClearField("shape")
    return new


def _named(info: onnx.ValueInfoProto) -> list[int | str]:
    """Returns each dimension: its size, or the name of a dynamic one."""
    shape = info.type.tensor_type.shape.dim
    return [
        d.dim_value if d.dim_value > 0 else d.dim_param if d.dim_param.strip("?") else f"{info.name}:{axis}"
        for axis, d in enumerate(shape)
    ]


def _dimension(
    graph: Graph, tensor: str, names: list[int | str], axis: int, name: str, known: Mapping[int, int]
) -> Dimension:
    if axis in known:
        return Dimension(name, known[axis], "fixed")
    if axis == 0:
        return Dimension(name, 1, "batch" if len(names) > 1 else "vector")
    if len(names) != 4 or _first_weighted(graph, tensor) in WEIGHTED - CONVOLUTIONS:
        return Dimension(name, SEQUENCE, "sequence")
    if axis == 1:
        first = isinstance(names[0], str) and isinstance(names[3], str)
        return Dimension(name, COLORS if first else IMAGE, "channels" if first else "image")
    return Dimension(name, IMAGE, "image")


def _weight(found: Dimension, axis: int, names: list[int | str]) -> int:
    """Returns how much the place of a name says, the least most: a weight, an axis after a batch, the batch itself, an
    axis after layers or directions (the state of an LSTM), the only axis."""
    if found.kind == "fixed":
        return 0
    if axis > 0:
        return 1 if isinstance(names[0], str) else 3
    return 2 if len(names) > 1 else 4


def _first_weighted(graph: Graph, tensor: str) -> str:
    """Returns the operator of the first convolution or matrix product downstream of a tensor; "" if none is near."""
    pending, seen = [tensor], {tensor}
    while pending and len(seen) < REACH:
        for reader in graph.readers(pending.pop(0)):
            if reader.node.op in WEIGHTED:
                return str(reader.node.op)
            made = [t.name for t in reader.node.outputs if t.name and t.name not in seen]
            seen.update(made)
            pending += made
    return ""


def _fixed(graph: Graph, tensor: str, rank: int) -> Iterator[tuple[int, int]]:
    """Yields (axis, size) where a weight or another constant that reads the input determines a dimension."""
    pending, seen = [tensor], {tensor}
    while pending and len(seen) < REACH:
        for reader in graph.readers(pending.pop(0)):
            yield from ((axis % rank, size) for axis, size in _demanded(graph, reader, rank) if -rank <= axis < rank)
            same = is_pair(reader.node) or reader.node.op in ELEMENTWISE or reader.node.op in ("Cast", "Identity")
            if same and reader.index >= 0 and key(reader.node) not in seen:
                seen.add(key(reader.node))
                pending.append(key(reader.node))


def _demanded(graph: Graph, reader: Reader, rank: int) -> Iterator[tuple[int, int]]:
    """Yields the axes of the first input that the constants of one node determine."""
    node = reader.node
    others = [
        (i, graph.shape(t.name)) for i, t in enumerate(node.inputs) if i != reader.index and graph.is_constant(t.name)
    ]
    for index, dims in others:
        if dims is None or None in dims:
            continue
        known = [d for d in dims if d is not None]
        if node.op == "Conv" and reader.index == 0 and index == 1 and len(known) == rank:
            yield 1, known[1] * groups_of(node)
        elif node.op == "ConvTranspose" and reader.index == 0 and index == 1 and len(known) == rank:
            yield 1, known[0]
        elif node.op == "MatMul" and len(known) > 1 and rank > 1:
            yield (-1, known[-2]) if reader.index == 0 else (-2, known[-1])
        elif node.op == "Gemm" and reader.index == 0 and index == 1 and len(known) == 2:
            yield (0 if node.attrs.get("transA") else 1), known[1 if node.attrs.get("transB") else 0]
        elif node.op in RECURRENT and reader.index == 0 and index == 1 and len(known) == 3:
            yield 2, known[2]
        elif node.op in ELEMENTWISE:
            yield from ((axis - len(known), size) for axis, size in enumerate(known) if size > 1)


def _terms(name: str) -> ast.expr | None:
    """Returns the expression of a dimension such as "past + sequence" or "2*n"; None if it is a plain name."""
    try:
        tree = ast.parse(name, mode="eval").body
    except SyntaxError:
        return None
    return tree if isinstance(tree, ast.BinOp) else None


def _follows(name: str, plain: set[str]) -> bool:
    """Returns whether a dimension is an expression of others: "a-b" is a name unless a and b are names too."""
    tree = _terms(name)
    return tree is not None and all(n.id in plain for n in ast.walk(tree) if isinstance(n, ast.Name))


def _evaluated(name: str, sizes: Sizes) -> int:
    tree = _terms(name)
    if tree is None or name in sizes:
        return sizes.get(name, SEQUENCE)
    return max(1, _value(tree, sizes))


def _value(tree: ast.expr, sizes: Sizes) -> int:
    """Returns the value of an expression of sizes; `SEQUENCE` for a part that is none."""
    if isinstance(tree, ast.BinOp):
        a, b = _value(tree.left, sizes), _value(tree.right, sizes)
        match tree.op:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
            case ast.FloorDiv() | ast.Div() if b:
                return a // b
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    return sizes.get(tree.id, SEQUENCE) if isinstance(tree, ast.Name) else SEQUENCE
