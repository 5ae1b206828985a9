"""Other forms of a network, drawn from one generator: types, functions, branches, constants, names, dynamic shapes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qdqgraph.errors import QdqgraphError
from qdqgraph.fp16 import to_fp16
from qdqgraph.model.opset import raised

Dress = Callable[[onnx.ModelProto, Random], None]
NAMES = (
    *("/model.0/conv/Conv_output_0", "a b", "x" * 3000, "\u00e9\u4e2d", "a:b;c", "%s{0}", "*[a]?", "-o"),
    *("\u202egnp", "\x1b[31m", "a\nb"),
)
QUANTIZED = (
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.INT4,
    TensorProto.UINT4,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E5M2,
)


def dressed(model: onnx.ModelProto, random: Random) -> onnx.ModelProto:
    """A copy of a model in another form, most of which are valid."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    for dress in random.choices((_nothing, *FORMS), (12, *([1] * len(FORMS))), k=random.choice((1, 1, 2, 3))):
        dress(new, random)
    return new


def _nothing(model: onnx.ModelProto, random: Random) -> None:
    """Leaves it as it is."""


def _number(model: onnx.ModelProto, random: Random) -> None:
    """Another opset, whose operators may have another form."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = random.randrange(10, 24)


def _later(model: onnx.ModelProto, random: Random) -> None:
    """A later opset, with the nodes converted."""
    try:
        model.CopyFrom(raised(model, random.randrange(14, 24)))
    except QdqgraphError:
        return


def _half(model: onnx.ModelProto, random: Random) -> None:
    """FP16 outside the pairs."""
    try:
        model.CopyFrom(to_fp16(model, keep_io=random.random() < 0.5).model)
    except QdqgraphError:
        return


def _integers(model: onnx.ModelProto, random: Random) -> None:
    """Another type of quantized values, in all constants or in one."""
    kind, one = random.choice(QUANTIZED), random.random() < 0.3
    found = [t for t in model.graph.initializer if t.data_type == TensorProto.INT8]
    for tensor in [random.choice(found)] if found and one else found:
        values = numpy_helper.to_array(tensor)
        shift = 128 if kind == TensorProto.UINT8 and random.random() < 0.5 else 0
        wide = values.astype(np.int32) + shift
        small = np.clip(wide, 0 if kind == TensorProto.UINT4 else -8, 7) if kind in QUANTIZED[2:4] else wide
        if kind == TensorProto.UINT8:
            small = np.clip(wide, 0, 255)
        made = helper.make_tensor(tensor.name, kind, list(tensor.dims), small.astype(np.float32).reshape(-1).tolist())
        tensor.CopyFrom(made)


def _blocks(model: onnx.ModelProto, random: Random) -> None:
    """Scales of blocks instead of channels at one DequantizeLinear of a constant."""
    constants = {t.name: t for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    if not nodes:
        return
    node = random.choice(nodes)
    dims = list(constants[node.input[0]].dims)
    if not dims:
        return
    axis = random.randrange(len(dims))
    size = random.choice((1, 2, 16))
    shape = [-(-d // size) if i == axis else d for i, d in enumerate(dims)]
    scales = np.linspace(0.01, 0.1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    model.graph.initializer.append(numpy_helper.from_array(scales, "blocked"))
    del node.attribute[:]
    node.attribute.extend([helper.make_attribute("axis", axis), helper.make_attribute("block_size", size)])
    node.input[1] = "blocked"
    del node.input[2:]
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, 21)


def _constants(model: onnx.ModelProto, random: Random) -> None:
    """Initializers as Constant nodes."""
    kept = []
    nodes = []
    for tensor in model.graph.initializer:
        if random.random() < 0.7:
            nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            kept.append(tensor)
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)


def _fed(model: onnx.ModelProto, random: Random) -> None:
    """Initializers that are inputs too, as before IR version 4."""
    for tensor in model.graph.initializer:
        if random.random() < 0.5:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(info)


def _dynamic(model: onnx.ModelProto, random: Random) -> None:
    """Dimensions with a name, or without anything."""
    for info in (*model.graph.input, *model.graph.output):
        for index, dim in enumerate(info.type.tensor_type.shape.dim):
            if random.random() < 0.4:
                name = random.choice(("N", "batch", f"d{index}", ""))
                dim.Clear()
                if name:
                    dim.dim_param = name


def _typed(model: onnx.ModelProto, random: Random) -> None:
    """Types of all tensors, as exporters store them."""
    try:
        model.CopyFrom(onnx.shape_inference.infer_shapes(model))
    except Exception:  # noqa: BLE001 - onnx raises several
        return


def _named(model: onnx.ModelProto, random: Random) -> None:
    """Another name of a tensor and of a node."""
    names = sorted(
        {name for node in model.graph.node for name in node.output if name} | {i.name for i in model.graph.input}
    )
    if not names:
        return
    old, new = random.choice(names), random.choice(NAMES)
    for node in model.graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                if name == old:
                    field[index] = new
        if random.random() < 0.3:
            node.name = random.choice(NAMES)
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        info.name = new if info.name == old else info.name


def _function(model: onnx.ModelProto, random: Random) -> None:
    """Some nodes in a row as a local function."""
    nodes = list(model.graph.node)
    if not nodes:
        return
    begin = random.randrange(len(nodes))
    end = random.randrange(begin, len(nodes)) + 1
    inner = nodes[begin:end]
    made = [name for node in inner for name in node.output if name]
    read = dict.fromkeys(name for node in inner for name in node.input if name and name not in made)
    later = {name for node in nodes[end:] for name in node.input} | {o.name for o in model.graph.output}
    shown = [name for name in made if name in later] or made[-1:]
    if not shown or any(a.type in (a.GRAPH, a.GRAPHS) for node in inner for a in node.attribute):
        return
    domain = random.choice(("local", "", "com.microsoft"))
    imports = [entry for entry in model.opset_import if entry.domain != "local"]
    model.functions.append(helper.make_function(domain or "local", "Part", list(read), shown, inner, imports))
    call = helper.make_node("Part", list(read), shown, domain=domain or "local")
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:begin], call, *nodes[end:]])
    if all(entry.domain != (domain or "local") for entry in model.opset_import):
        model.opset_import.add(domain=domain or "local", version=1)


def _branch(model: onnx.ModelProto, random: Random) -> None:
    """All nodes in both branches of an If, whose condition is a constant or an input."""
    graph = model.graph
    outputs = [o.name for o in graph.output]
    if not outputs or not graph.node:
        return
    branches = []
    for mark in ("_then", "_else"):
        inner = onnx.GraphProto(name=f"g{mark}")
        inner.node.extend(graph.node)
        own = {name for node in graph.node for name in node.output if name}
        for node in inner.node:
            for field in (node.input, node.output):
                for index, name in enumerate(field):
                    if name in own:
                        field[index] = name + mark
        for output in graph.output:
            inner.output.append(output)
            inner.output[-1].name = output.name + (mark if output.name in own else "")
        branches.append(inner)
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    if random.random() < 0.5:
        graph.input.append(condition)
    else:
        graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    node = helper.make_node("If", ["condition"], outputs, then_branch=branches[0], else_branch=branches[1])
    del graph.node[:], graph.value_info[:]
    graph.node.append(node)


def _small(model: onnx.ModelProto, random: Random) -> None:
    """Scales that are very small, very large, or equal."""
    factor = random.choice((1e-38, 1e-8, 1e4, 1e30, 0.0, 1.0))
    read = {node.input[1] for node in model.graph.node if node.op_type.endswith("tizeLinear") and len(node.input) > 1}
    for tensor in model.graph.initializer:
        if tensor.name in read and tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            made = np.full_like(values, 0.1) if factor == 1.0 else values * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(made, tensor.name))


FORMS: tuple[Dress, ...] = (
    _number,
    _later,
    _half,
    _integers,
    _integers,
    _blocks,
    _constants,
    _fed,
    _dynamic,
    _typed,
    _named,
    _function,
    _function,
    _branch,
    _small,
)
