"""Names, shapes and types as short text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from ...engines.layers import Layer, Tensor
from ...graph.graph import Graph, Node, label
from ...printable import printable

SHOWN_ATTRIBUTES = ("kernel_shape", "strides", "pads", "dilations", "group", "axis", "axes", "perm", "mode", "alpha")
"""Attributes that are shown with a node."""
NUMBER = re.compile(r"_\d+$")
"""The number that an exporter adds to the name of an operator: "Conv_1"."""
WEIGHT_MARK = re.compile("[.:]")
"""Characters of the names of weights, where nodes have scopes."""
LONGEST = 8
"""Values of an attribute that are shown."""


def short(name: str, op: str = "") -> str:
    """A name without what repeats: "/stages/stages.0/conv1/conv/Conv" of a Conv is "stages.0/conv1/conv"."""
    parts = [part for part in printable(name).split("/") if part]
    while len(parts) > 1 and NUMBER.sub("", parts[-1]).lower() == op.lower():
        parts.pop()
    kept: list[str] = []
    for part in parts:
        if kept and (part == kept[-1] or part.startswith(f"{kept[-1]}.")):
            kept.pop()
        kept.append(part)
    return "/".join(kept) or printable(name)


def titled(node: Node) -> str:
    """The short name of a node; its output if it has no name."""
    name = str(node.name)
    return short(name, node.op) if name else short(label(node)[len(node.op) + 1 : -1], node.op)


def dims(shape: Iterable[int | None] | None) -> str:
    """A shape in words: "1 x 64 x 56 x 56"; "?" for an unknown dimension, "" for an unknown rank."""
    return "" if shape is None else " × ".join("?" if d is None or d < 0 else str(d) for d in shape)


def shape_of(graph: Graph, tensor: str) -> str:
    """The shape of a tensor in words."""
    return dims(graph.shape(tensor))


def attributes(node: Node) -> str:
    """The attributes of a node that say what it computes: "kernel_shape 3 3, strides 2 2"."""
    found = []
    for name in SHOWN_ATTRIBUTES:
        value = node.attrs.get(name)
        if isinstance(value, list | tuple):
            more = " …" if len(value) > LONGEST else ""
            found.append(f"{name} {' '.join(map(str, value[:LONGEST]))}{more}")
        elif isinstance(value, str | int | float):
            found.append(f"{name} {value}")
    return printable(", ".join(found))


def types(tensors: Sequence[Tensor]) -> str:
    """The types of tensors, each once, with its layout: "INT8 CHW32, FP16"."""
    return printable(", ".join(dict.fromkeys(f"{t.precision} {t.layout}".strip() for t in tensors)))


def kernel_title(layer: Layer) -> str:
    """The short name of a kernel: the scope of its first node, then the last part of the name of each."""
    return " ".join(part for part in kernel_parts(layer) if part)


def kernel_parts(layer: Layer) -> tuple[str, str]:
    """The short name of a kernel in two: the scope of its first node, and the last part of the name of each; of a
    reformat and of a kernel without nodes its name, and "".

    TensorRT lists weights among the nodes of a kernel; where nodes have scopes, names like "conv.weight_quantized" and
    "onnx::Conv_12" are weights.
    """
    nodes = [n for n in layer.nodes if not n.endswith((".weight", ".bias"))]
    if layer.cause or not nodes:
        return short(layer.quantizers[0] if layer.quantizers else layer.name), ""
    scoped = [n for n in nodes if "/" in n.strip("/")]
    if scoped:
        nodes = [n for n in nodes if n in scoped or not WEIGHT_MARK.search(n)]
    last = dict.fromkeys(n.rstrip("/").rsplit("/", 1)[-1] for n in nodes)
    scope = short(scoped[0].rsplit("/", 1)[0]) if scoped else ""
    return scope, printable(" + ".join(last))


def finite(value: float | None) -> float | None:
    """A number as JSON has it: None if it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def sentence(text: str) -> str:
    """A text with a capital letter."""
    return printable(text[:1].upper() + text[1:])


def note(text: str) -> str:
    """A sentence for the user; its lines stay."""
    return printable(text, keep="\n")
