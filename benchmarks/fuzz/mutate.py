"""Mutations: of the structure of an ONNX model, of JSON documents, of text, of bytes; drawn from one generator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    10,
    13,
    16,
    21,
    127,
    128,
    255,
    1000,
    -128,
    2**31 - 1,
    -(2**31),
    2**31,
    2**63 - 1,
    -(2**63),
)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-40, 1e30, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "a",
    "x",
    "..",
    "/etc/passwd",
    "abc",
    "-1",
    "1e99",
    "ai.onnx",
    "com.microsoft",
    "\n::x::",
    "\x00",
    "\u00fc" * 3,
)
OPERATORS = [
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "Expand",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "If",
    "LayerNormalization",
    "Loop",
    "LSTM",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "QLinearConv",
    "QuantizeLinear",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Scan",
    "SequenceConstruct",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Tile",
    "TopK",
    "Transpose",
    "Unsqueeze",
    "Where",
]
NOT_UTF8 = (b"\xff\xfe\x80", b"\xc3\x28\xa0")
MARK = "fuzzmark"
"""Marks a text that becomes invalid UTF-8 when the model is serialized: protobuf refuses to set one."""


def model(seed: onnx.ModelProto, random: Random) -> bytes:
    """A file made from a model: one to four mutations of its structure, at times of its bytes too."""
    new = onnx.ModelProto()
    new.CopyFrom(seed)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        random.choice((_field, _field, _field, _wire, _tensor, _type, _operator, _opset))(new, random)
    data = new.SerializePartialToString(deterministic=True)
    if MARK.encode() in data:
        data = data.replace(MARK.encode(), (random.choice(NOT_UTF8) * len(MARK))[: len(MARK)])
    return raw(data, random) if random.random() < 0.08 else data


def raw(data: bytes, random: Random) -> bytes:
    """Bytes with a few changed, removed, repeated or cut off."""
    new = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(len(new) + 1)
        kind = random.randrange(5)
        if kind == 0 and at < len(new):
            new[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < len(new):
            new[at] = random.choice((0, 255, 127, 128, random.randrange(256)))
        elif kind == 2:
            del new[at : at + random.choice((1, 2, 16, 256))]
        elif kind == 3:
            new[at:at] = new[at : at + random.choice((1, 4, 64))] or b"\x80"
        elif random.random() < 0.3:
            del new[at:]
    return bytes(new)


def text(data: str, random: Random) -> bytes:
    """A text file with lines removed, repeated, swapped, numbers and words replaced, or bytes changed."""
    lines = data.split("\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(lines))
        kind = random.randrange(7)
        if kind == 0 and len(lines) > 1:
            del lines[at]
        elif kind == 1:
            lines.insert(at, random.choice(lines))
        elif kind == 2:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
        elif kind == 4 and lines[at].split():
            word = random.choice(lines[at].split())
            lines[at] = lines[at].replace(
                word, random.choice(("", "1e999", "-1", "None", "[[", "true", '"', *TEXTS[:6])), 1
            )
        elif kind == 5:
            lines[at] += random.choice(("[" * 3000, "{a=" * 600, "(" * 300, "\x00", " = 1", "'", "\u2028", "9" * 5000))
        else:
            lines[at] = "\t" + lines[at]
    new = "\n".join(lines).encode()
    return raw(new, random) if random.random() < 0.15 else new


def document(data: Any, random: Random) -> bytes:
    """A JSON document with values of other types, missing, repeated and unknown keys, extreme numbers, deep nesting."""
    new = json.loads(json.dumps(data))
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(new))
        if not places:
            break
        holder, at = random.choice(places)
        kind = random.randrange(4)
        if kind == 0:
            del holder[at]
        elif kind == 1 and isinstance(holder, list):
            holder.append(holder[at])
        elif kind == 2:
            other, place = random.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                holder[at] = json.loads(json.dumps(other[place]))
        else:
            holder[at] = random.choice((None, [], {}, "", True, [None], {"a": 1}, *INTEGERS, *REALS, *TEXTS))
    result = json.dumps(new).encode()
    if random.random() < 0.03:
        result = b"[" * 200_000
    return raw(result, random) if random.random() < 0.1 else result


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for at, inner in list(pairs):
        yield data, at
        yield from _places(inner)


def _messages(top: Message, kind: str = "") -> list[Message]:
    """A message and every one inside, or those of one type."""
    found, pending = [], [top]
    while pending:
        message = pending.pop()
        if not kind or message.DESCRIPTOR.name == kind:
            found.append(message)
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                pending += list(value) if field.is_repeated else [value]
    return found


def _field(top: onnx.ModelProto, random: Random) -> None:
    """Drops, sets, repeats, swaps or moves one field of one message."""
    message = random.choice(_messages(top))
    fields = [field for field, _ in message.ListFields()]
    if not fields or random.random() < 0.15:
        fields = list(message.DESCRIPTOR.fields)
    field = random.choice(fields)
    value = getattr(message, field.name)
    if random.random() < 0.2:
        message.ClearField(field.name)
    elif field.is_repeated:
        _repeated(field, value, random)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        others = _messages(top, field.message_type.name)
        if others:
            copy = type(others[0]).FromString(random.choice(others).SerializePartialToString())
            value.CopyFrom(copy)
    else:
        setattr(message, field.name, _scalar(top, field, random))


def _repeated(field: FieldDescriptor, value: Any, random: Random) -> None:
    kind = random.randrange(4)
    if kind == 0 and len(value):
        del value[random.randrange(len(value))]
    elif kind == 1 and len(value) > 1:
        kept = list(value)
        random.shuffle(kept)
        kept = [type(x).FromString(x.SerializePartialToString()) if isinstance(x, Message) else x for x in kept]
        del value[:]
        value.extend(kept)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        copy = random.choice(value).SerializePartialToString() if len(value) else b""
        value.add().ParseFromString(copy)
    else:
        new = _plain(field, random) if kind == 2 or not len(value) else random.choice(list(value))
        if len(value) and random.random() < 0.6:
            value[random.randrange(len(value))] = new
        else:
            value.append(new)


def _scalar(top: onnx.ModelProto, field: FieldDescriptor, random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING and random.random() < 0.5:
        return _name(top, random)
    return _plain(field, random)


def _plain(field: FieldDescriptor, random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return random.choice((*TEXTS, MARK, *OPERATORS))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.choice((b"", b"\xff", b"abc", bytes(4), b"\x00\x00\xc0\x7f", bytes(64)))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return random.choice(REALS)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.choice(field.enum_type.values).number
    least, most = (-(2**31), 2**31 - 1) if field.type == FieldDescriptor.TYPE_INT32 else (-(2**63), 2**63 - 1)
    if field.type in (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_UINT32):
        least, most = 0, 2**32 - 1
    return random.choice([n for n in INTEGERS if least <= n <= most])


def _name(top: onnx.ModelProto, random: Random) -> str:
    graph = top.graph
    names = [name for node in graph.node for name in (*node.input, *node.output, node.name)]
    names += [x.name for x in (*graph.input, *graph.output, *graph.initializer)]
    return random.choice(names or [""])


def _wire(top: onnx.ModelProto, random: Random) -> None:
    """Another tensor at a node's input or output: shared, missing, its own (a cycle), or of another node."""
    nodes = [node for node in _messages(top, "NodeProto") if node.input or node.output]
    if not nodes:
        return
    node: Any = random.choice(nodes)
    names = node.input if node.input and (random.random() < 0.7 or not node.output) else node.output
    at = random.randrange(len(names))
    names[at] = random.choice((_name(top, random), _name(top, random), "", "nowhere", *node.output[:1]))


def _tensor(top: onnx.ModelProto, random: Random) -> None:
    """A constant of another type, shape, length or value, or with external data that are not there."""
    tensors = _messages(top, "TensorProto")
    if not tensors:
        return
    tensor: Any = random.choice(tensors)
    kind = random.randrange(6)
    if kind == 0:
        tensor.data_type = random.randrange(27)
    elif kind == 1:
        del tensor.dims[:]
        tensor.dims.extend(random.choice(INTEGERS[:17]) for _ in range(random.randrange(4)))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]
    elif kind == 3:
        tensor.data_location = 1
        for key, values in (("location", TEXTS), ("offset", ("abc", "-5", "0", "9" * 30)), ("length", ("-1", "8"))):
            if random.random() < 0.7:
                tensor.external_data.add(key=key, value=random.choice(values))
    elif tensor.data_type == 1:
        value = random.choice(REALS)
        count = 1
        for dim in tensor.dims:
            count *= dim
        if 0 <= count < 4096:
            new = onnx.helper.make_tensor(tensor.name, 1, list(tensor.dims), [value] * count)
            tensor.CopyFrom(new)


def _type(top: onnx.ModelProto, random: Random) -> None:
    """Another type of a graph's input, output or intermediate: another element type, a sequence, an optional, none."""
    infos = _messages(top, "ValueInfoProto")
    if not infos:
        return
    info: Any = random.choice(infos)
    kind = random.randrange(5)
    if kind == 0:
        info.type.tensor_type.elem_type = random.randrange(27)
    elif kind == 1:
        info.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == 2:
        info.type.optional_type.elem_type.tensor_type.elem_type = 8
    elif kind == 3:
        info.type.sparse_tensor_type.elem_type = 1
    else:
        dim = info.type.tensor_type.shape.dim.add()
        dim.dim_value = random.choice(INTEGERS)


def _operator(top: onnx.ModelProto, random: Random) -> None:
    """Another operator, domain, or attribute of a node."""
    nodes = _messages(top, "NodeProto")
    if not nodes:
        return
    node: Any = random.choice(nodes)
    kind = random.randrange(4)
    if kind == 0:
        node.op_type = random.choice(OPERATORS)
    elif kind == 1:
        node.domain = random.choice(("com.microsoft", "ai.onnx", "acme", "ai.onnx.ml", "trt.plugins"))
    elif kind == 2 and node.attribute:
        attribute = random.choice(node.attribute)
        values: tuple[Any, ...] = (1, -1, 2**40, 1.5, "x", [1, 2], [0.5], [], b"\xff")
        value = random.choice(values)
        if value == []:
            del attribute.ints[:]
        else:
            attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, value))
    else:
        name = random.choice(("axis", "axes", "perm", "to", "value", "group", "keepdims", "block_size", "output_dtype"))
        node.attribute.append(onnx.helper.make_attribute(name, random.choice((0, 1, -9, 99, [0, 1], "abc", 0.5))))


def _opset(top: onnx.ModelProto, random: Random) -> None:
    """Another opset or IR version, a second import, or none."""
    kind = random.randrange(4)
    if kind == 0 and top.opset_import:
        top.opset_import[0].version = random.choice((0, 1, 7, 9, 10, 11, 12, 13, 19, 21, 23, 24, 25, 1000, -1))
    elif kind == 1:
        top.ir_version = random.choice((0, 1, 3, 4, 7, 10, 13, 99, -1))
    elif kind == 2:
        top.opset_import.add(domain=random.choice(("", "ai.onnx", "acme")), version=random.choice((1, 13, 1000)))
    else:
        top.opset_import.add(domain=random.choice(("com.microsoft", "ai.onnx.ml", "")), version=1)
