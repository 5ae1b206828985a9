"""`refuse_malformed`: rejects what no ONNX file may contain: in the graph, subgraphs, constants and local functions.

Checked are texts (UTF-8), the data of tensors against their type and dimensions, and for operators of ONNX's own
domain the types of attributes, the number of inputs, and outputs, against every version of the operator: nodes in the
form of another opset are repaired later. Of ONNX Runtime's own operators, the types of attributes that rules read are
checked. Source: onnx.defs and https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from ..errors import GraphError
from ..operators import PAIRS
from .external import refuse_entries
from .inline.references import reference
from .protos import STANDARD

ONE, HALF, TWO = Fraction(1), Fraction(1, 2), Fraction(2)
BYTES = ("BOOL", "INT8", "UINT8", *(name for name, _ in TensorProto.DataType.items() if name.startswith("FLOAT8")))
CRUMBS = ("INT2", "UINT2")
WORDS = ("INT16", "UINT16", "FLOAT16", "BFLOAT16")
FIELDS: Mapping[int, tuple[str, int, Fraction]] = {
    **{TensorProto.DataType.Value(name): ("int32_data", 8, ONE) for name in BYTES},
    **{TensorProto.DataType.Value(name): ("int32_data", 16, ONE) for name in WORDS},
    **{number: ("int32_data", 2, Fraction(1, 4)) for name, number in TensorProto.DataType.items() if name in CRUMBS},
    TensorProto.INT32: ("int32_data", 32, ONE),
    TensorProto.UINT32: ("uint64_data", 32, ONE),
    TensorProto.INT64: ("int64_data", 64, ONE),
    TensorProto.UINT64: ("uint64_data", 64, ONE),
    TensorProto.FLOAT: ("float_data", 32, ONE),
    TensorProto.DOUBLE: ("double_data", 64, ONE),
    TensorProto.COMPLEX64: ("float_data", 64, TWO),
    TensorProto.COMPLEX128: ("double_data", 128, TWO),
    TensorProto.INT4: ("int32_data", 4, HALF),
    TensorProto.UINT4: ("int32_data", 4, HALF),
    TensorProto.FLOAT4E2M1: ("int32_data", 4, HALF),
    TensorProto.STRING: ("string_data", 0, ONE),
}
"""Per element type: the TensorProto field that is used without raw_data, bits per element, and entries of the field per
element. Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto"""
MOST = 1 << 60
"""Elements beyond which no tensor can exist, whatever its type."""
KINDS = {number: name for name, number in AttributeProto.AttributeType.items()}
TYPES = frozenset(TensorProto.DataType.values())
UNREAD = frozenset(
    number
    for name, number in TensorProto.DataType.items()
    if name.startswith(("BFLOAT16", "FLOAT8", "FLOAT4")) and helper.tensor_dtype_to_np_dtype(number) == np.float32
)
"""Types whose values the installed onnx does not give as they are: below 1.19, BFLOAT16, FLOAT8 and FLOAT4."""
TYPED = ("to", "dtype", "output_dtype")
"""Attributes that contain an element type."""
FOREIGN: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(("K", "N", "bits", "block_size", "channels_last"), frozenset({AttributeProto.INT})),
    **dict.fromkeys(("axis", "group", "keepdims", "opset"), frozenset({AttributeProto.INT})),
    **dict.fromkeys(("transA", "transB", "transBatchA", "transBatchB"), frozenset({AttributeProto.INT})),
    **dict.fromkeys(("axes", "dilations", "kernel_shape", "pads", "strides"), frozenset({AttributeProto.INTS})),
    **dict.fromkeys(("activation_alpha", "activation_beta"), frozenset({AttributeProto.FLOAT, AttributeProto.FLOATS})),
    "activation": frozenset({AttributeProto.STRING}),
    "activation_params": frozenset({AttributeProto.FLOATS}),
    "alpha": frozenset({AttributeProto.FLOAT}),
}
"""The types of attributes that rules read at ONNX Runtime's own operators, which have no schema in onnx.
Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md"""
NOT_UTF8 = "a text in the model is not UTF-8 ({!r}): the file is damaged"
NEWEST = 2**31 - 1
"""The largest version of an opset: onnx stores it in 32 bits."""


@dataclass(frozen=True)
class Form:
    """What all versions of an operator have in common.

    Attributes:
        inputs: the least number of inputs; none of these is left out.
        most: the largest number of inputs.
        outputs: the least number of outputs.
        attributes: for each attribute its types, `AttributeProto.AttributeType`.
    """

    inputs: int
    most: int
    outputs: int
    attributes: Mapping[str, frozenset[int]]


def refuse_malformed(model: onnx.ModelProto, accepted: Collection[bytes] = ()) -> None:
    """Rejects a model that is damaged in the sense of this module.

    Args:
        model: the model.
        accepted: nodes of its main graph that need no check, serialized.

    Raises:
        GraphError: names the tensor or node, and what is wrong.
    """
    for entry in model.opset_import:
        least = 1 if entry.domain in STANDARD else 0
        if not least <= entry.version <= NEWEST:
            raise GraphError(f"the model imports opset {entry.version} of domain {entry.domain!r}; there is none")
    try:
        _graph(model.graph, inside=False, accepted=accepted)
        for function in model.functions:
            for node in function.node:
                _node(node, inside=True)
            _attributes("function", function.name, function.attribute_proto, {}, inside=True, standard=False)
            _texts(function.name, function.domain, *function.input, *function.output)
        for prop in model.metadata_props:
            _texts(prop.key, prop.value)
    except UnicodeDecodeError as error:
        text = bytes(error.object)[:40] if isinstance(error.object, bytes | bytearray) else b""
        raise GraphError(NOT_UTF8.format(text)) from error


def _readable(kind: int, where: str) -> None:
    """Rejects a type that only a newer onnx reads."""
    if kind in UNREAD:
        name = TensorProto.DataType.Name(kind)
        raise GraphError(f"{where} is {name}, which onnx {onnx.__version__} cannot read: install onnx 1.19 or later")


def _texts(*texts: str | bytes) -> None:
    """Rejects what is not UTF-8: depending on its version, protobuf returns it as bytes, or raises an error."""
    if bytes in map(type, texts):
        raise GraphError(NOT_UTF8.format(next(text for text in texts if isinstance(text, bytes))[:40]))


def _graph(graph: onnx.GraphProto, *, inside: bool, accepted: Collection[bytes] = ()) -> None:
    """Checks a graph; `inside` a local function, attributes may refer to those of the function."""
    _texts(graph.name)
    for tensor in graph.initializer:
        refuse_tensor(tensor, f"initializer '{tensor.name}'")
    for sparse in graph.sparse_initializer:
        _sparse(sparse, f"sparse initializer '{sparse.values.name}'")
    for info in (*graph.input, *graph.output, *graph.value_info):
        _readable(info.type.tensor_type.elem_type, f"'{info.name}'")
        _texts(info.name, *(dim.dim_param for dim in info.type.tensor_type.shape.dim))
        if info.type.tensor_type.elem_type not in TYPES:
            kind = info.type.tensor_type.elem_type
            raise GraphError(f"tensor '{info.name}' has the unknown element type {kind}: the file is damaged")
    for node in graph.node:
        if not accepted or node.SerializeToString() not in accepted:
            _node(node, inside=inside)


def _node(node: onnx.NodeProto, *, inside: bool) -> None:
    operator, domain, inputs, outputs = node.op_type, node.domain, node.input[:], node.output[:]
    _texts(node.name, operator, domain, *inputs, *outputs)
    form = form_of(operator) if domain in STANDARD or operator in PAIRS else None
    name = node.name or next(iter(outputs), "")
    if form is not None:
        if len(inputs) < form.inputs or not all(inputs[: form.inputs]):
            missing = next((i for i, each in enumerate(inputs) if not each and i < form.inputs), len(inputs))
            raise GraphError(f"node '{name}' ({operator}) has no input {missing}: the file is damaged")
        if domain in STANDARD and any(inputs[form.most :]):
            what = f"{len(inputs)} inputs, and the operator at most {form.most}"
            raise GraphError(f"node '{name}' ({operator}) has {what}: the file is damaged")
        if len(outputs) < form.outputs:
            raise GraphError(f"node '{name}' ({operator}) has no output: the file is damaged")
    if attributes := node.attribute[:]:
        foreign = FOREIGN if domain in (*STANDARD, "com.microsoft") else {}
        types = foreign if form is None else form.attributes
        _attributes(operator, name, attributes, types, inside=inside, standard=form is not None)


def _attributes(
    operator: str,
    name: str,
    attributes: Iterable[AttributeProto],
    known: Mapping[str, frozenset[int]],
    *,
    inside: bool,
    standard: bool,
) -> None:
    found: set[str] = set()
    for attribute in attributes:
        own, kind, referred = attribute.name, attribute.type, attribute.ref_attr_name
        _texts(own, referred)
        if own in found:
            raise GraphError(f"node '{name}' ({operator}) has the attribute {own} twice: the file is damaged")
        found.add(own)
        if referred and not inside:
            what = f"attribute {own} that refers to an attribute of a function, and is in none"
            raise GraphError(f"node '{name}' ({operator}) has the {what}: the file is damaged")
        types = known.get(own)
        if types is not None and not referred and kind not in types:
            wanted = " or ".join(sorted(KINDS[known_type] for known_type in types))
            what = f"attribute {own} of type {KINDS.get(kind, str(kind))}, and it is {wanted}"
            raise GraphError(f"node '{name}' ({operator}) has the {what}: the file is damaged")
        if standard and own in TYPED and kind == AttributeProto.INT and attribute.i not in TYPES:
            what = f"attribute {own} = {attribute.i}, which is no element type"
            raise GraphError(f"node '{name}' ({operator}) has the {what}: the file is damaged")
        where = f"attribute {own} of '{name}' ({operator})"
        if attribute.HasField("t"):
            refuse_tensor(attribute.t, where)
        if attribute.HasField("sparse_tensor"):
            _sparse(attribute.sparse_tensor, where)
        for tensor in attribute.tensors[:]:
            refuse_tensor(tensor, where)
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs[:]):
            _graph(graph, inside=inside)


def _sparse(sparse: onnx.SparseTensorProto, where: str) -> None:
    refuse_tensor(sparse.values, where)
    refuse_tensor(sparse.indices, where)


def refuse_tensor(tensor: onnx.TensorProto, where: str) -> None:
    """Compares the data of a tensor with its type and dimensions.

    Raises:
        GraphError: they do not fit; with `where`.
    """
    _texts(tensor.name)
    if tensor.data_type not in TYPES or not tensor.data_type:
        raise GraphError(f"{where} has the unknown element type {tensor.data_type}: the file is damaged")
    _readable(tensor.data_type, where)
    dims, unit = tensor.dims[:], "elements"
    elements = math.prod(dims)
    if min(dims, default=0) < 0 or elements > MOST:
        raise GraphError(f"{where} has the dimensions {dims[:8]}: the file is damaged")
    field, bits, entries = FIELDS.get(tensor.data_type, ("", 0, ONE))
    own = reference(tensor)
    if own is None and tensor.data_location == TensorProto.EXTERNAL:
        _texts(*(text for entry in tensor.external_data for text in (entry.key, entry.value)))
        refuse_entries(tensor)
        return
    if not field or (own is None and tensor.external_data):
        return
    if own is not None:
        wanted, found, unit = -(-elements * bits // 8), len(own), "bytes"
    elif tensor.HasField("raw_data"):
        wanted, found, unit = -(-elements * bits // 8), len(tensor.raw_data), "bytes"
    else:
        wanted, found = math.ceil(elements * entries), len(getattr(tensor, field))
    if found != wanted:
        raise GraphError(f"{where} needs {wanted} {unit} and has {found}: the file is damaged")


@cache
def form_of(operator: str) -> Form | None:
    """What the versions of a standard operator have in common; None if ONNX has no such operator."""
    schemas = []
    version = onnx.defs.onnx_opset_version()
    while version > 0:
        try:
            schemas.append(onnx.defs.get_schema(operator, version, ""))
        except onnx.defs.SchemaError:
            break
        version = schemas[-1].since_version - 1
    if not schemas:
        return None
    types: dict[str, set[int]] = {}
    for schema in schemas:
        for name, attribute in schema.attributes.items():
            kind: Any = attribute.type
            types.setdefault(name, set()).add(int(kind.value))
    return Form(
        min(schema.min_input for schema in schemas),
        max(schema.max_input for schema in schemas),
        min(schema.min_output for schema in schemas),
        {name: frozenset(found) for name, found in types.items()},
    )
