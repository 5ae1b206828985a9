"""The ONNX nodes that a layer of an engine computes, from its Metadata or, in old versions, from its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

SEPARATOR = "\x1e"
"""Separates the entries of Metadata in the engine inspector's JSON."""
ENTRY = re.compile(r"\[ONNX Layer:\s*(.*?)\s*\](?=\s*(?:\[ONNX Layer:|[\x1e\x1f,;]|$))", re.DOTALL)
OWN = re.compile(
    r"\(Unnamed Layer\*|^(unsqueeze_node_after|copied_squeeze_after|reshape_(before|after)|squeeze_after)_"
)
"""Names of layers that TensorRT adds."""
REFORMATTING = re.compile(r"^Reformatting CopyNode for (Input|Output) Tensor \d+ to ")
FOREIGN = re.compile(r"^\{ForeignNode\[(.*)\]\}$", re.DOTALL)
BETWEEN = re.compile(r" (?:\+|\|\|) (?![^{}]*\]\})")
"""What separates the layers that TensorRT joined, also at the ends of a ForeignNode; but not the ForeignNode itself."""
PROFILE = re.compile(r"\s*\[profile (\d+)\]$")
QUANTIZER = re.compile(r"quant(ize)?_?(linear|scale_node)", re.IGNORECASE)


def of_layer(name: str, metadata: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(nodes, Q and DQ nodes) of a layer, each once and in order.

    `name` is used only if there is no Metadata. Without it, a Myelin layer, `{ForeignNode[a...b]}`, lists only its
    first and last node.
    """
    found = entries(metadata) or parts(name)
    unique = tuple(dict.fromkeys(found))
    return tuple(n for n in unique if not is_quantizer(n)), tuple(n for n in unique if is_quantizer(n))


def is_quantizer(node: str) -> bool:
    """Whether an ONNX node is a Q or DQ: every exporter writes the operator into the name."""
    return QUANTIZER.search(node) is not None


def entries(metadata: str) -> tuple[str, ...]:
    """The ONNX nodes that Metadata lists."""
    named = tuple(n for n in ENTRY.findall(metadata) if n)
    if named or not metadata.strip():
        return named
    return tuple(part.strip() for part in metadata.split(SEPARATOR) if part.strip())


def parts(name: str) -> tuple[str, ...]:
    """The ONNX nodes in a layer's name, "w + QuantizeLinear_7 + Conv_9"; without what TensorRT adds."""
    if REFORMATTING.match(name):
        return ()
    found: list[str] = []
    for piece in BETWEEN.split(PROFILE.sub("", name)):
        if foreign := FOREIGN.match(piece):
            found += [node for end in foreign[1].split("...") for node in parts(end)]
        elif piece.startswith("PWN("):
            found += _pointwise(piece)
        elif not OWN.search(piece):
            found.append(piece.removesuffix(" copy"))
    return tuple(n for n in found if n)


def _pointwise(piece: str) -> Iterable[str]:
    """The nodes in "PWN(PWN(Sigmoid_1), Mul_2)"; a node's own name may contain parentheses: "PWN(/a/Sigmoid (1))"."""
    inner = piece.removeprefix("PWN(").removesuffix(")")
    for part in inner.split(", "):
        while part.startswith("PWN("):
            part = part.removeprefix("PWN(")
        while part.endswith(")") and part.count(")") > part.count("("):
            part = part[:-1]
        yield part
