"""QDQ414."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qdqgraph.rulekit import (
    ONE_TO_ONE,
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Rewire,
    Rule,
    Safety,
    Severity,
    attributes,
    input_name,
    key,
    make_constant,
    make_node,
    move_of,
    replace,
)

Parameters = tuple[str, ...]
"""Names of the scale and zero-point of an integer tensor."""
UINT8, INT8 = 2, 3
BYTES = (UINT8, INT8)
"""`onnx.TensorProto` data types of the integers that 8-bit pairs produce."""
WIDER = (1, 6, 7, 10, 11)
"""FLOAT, INT32, INT64, FLOAT16, DOUBLE: types that represent such integers exactly, so a Cast to one is reversible."""

RANKS = frozenset({"ArgMax", "ArgMin"})
"""Operators whose output depends only on the order of the input values."""


class IntegersMoved(Rule):
    """A data-movement op, ArgMax, ArgMin or Resize reads quantized integers.

    Why: TensorRT treats Q and DQ as one rounding; no other operator may read the integers between them. The same
    operator on float values, between DQ and Q, produces the same integers, and TensorRT moves Q and DQ across it. The
    QOperator format has such operators: MaxPool, Reshape, Transpose, Concat on INT8 or UINT8. An embedding quantized by
    onnxruntime is a Gather of stored integers: the repair dequantizes the table first, and no value changes. A Pad
    fills with the dequantized fill value. The NhwcMaxPool of onnxruntime's optimizer (channels last) becomes a MaxPool
    between Transposes. ArgMax gives the same result on float values. An interpolating Resize is requantized, as its
    integers were. Casts between Q and DQ that return to the original type are removed.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ414", "integers-moved", Safety.EXACT
    severity = Severity.ERROR
    quantized = ("NhwcMaxPool",)

    examples = [
        Example(
            "a MaxPool of integers",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,2,2] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (q)
                y = DequantizeLinear (p, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,2,2] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
                r = QuantizeLinear (p, s, z)
                y = DequantizeLinear (r, s, z)
            }""",
        ),
        Example(
            "an embedding of stored integers",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (int64[1,2] x) => (float[1,2,2] y)
            <int8[3,2] w = {1, 2, 3, 4, 5, 6}, float s = {0.125}, int8 z = {0}>
            {
                e = Gather (w, x)
                y = DequantizeLinear (e, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (int64[1,2] x) => (float[1,2,2] y)
            <int8[3,2] w = {1, 2, 3, 4, 5, 6}, float s = {0.125}, int8 z = {0}>
            {
                d = DequantizeLinear (w, s, z)
                y = Gather (d, x)
            }""",
        ),
        Example(
            "an ArgMax of integers",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (int64[1,1,1,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = ArgMax <axis = 2> (q)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (int64[1,1,1,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = ArgMax <axis = 2> (d)
            }""",
        ),
        Example(
            "a Cast that changes nothing, between a Q and a Reshape of its integers",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,16] y)
            <float s = {0.1}, int8 z = {0}, int64[2] flat = {1, 16}>
            {
                q = QuantizeLinear (x, s, z)
                c = Cast <to = 3> (q)
                r = Reshape (c, flat)
                y = DequantizeLinear (r, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,16] y)
            <float s = {0.1}, int8 z = {0}, int64[2] flat = {1, 16}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                r = Reshape (d, flat)
                p = QuantizeLinear (r, s, z)
                y = DequantizeLinear (p, s, z)
            }""",
        ),
        Counterexample(
            "a MaxPool of float values",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,2,2] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        known: dict[str, Parameters] = {}
        converted = {key(cast) for cast in graph.nodes("Cast")}
        for node in graph.nodes():
            if not node.inputs:
                continue
            if node.op == "QuantizeLinear" and _plain(graph, node):
                known[key(node)] = tuple(t.name for t in node.inputs[1:3])
            if node.op != "Cast" and node.inputs[0].name in converted:
                yield from self._cast(graph, node, known)
            if node.op == "NhwcMaxPool":
                ranked = "kernel_shape" in node.attrs
                yield self.finding(
                    node,
                    f"{node.op} moves the integers '{node.inputs[0].name}'",
                    help="replace it by a channels-first MaxPool" if ranked else "set its kernel_shape attribute",
                    edits=[_channels_first(graph, node)] if ranked else (),
                )
                continue
            if node.op in RANKS and node.inputs[0].name in known:
                yield self.finding(
                    node,
                    f"{node.op} reads the integers '{node.inputs[0].name}'",
                    help="run it on float values, after a DequantizeLinear",
                    edits=[_compared(graph, node, known[node.inputs[0].name])],
                )
                continue
            single = node.op in ("Pad", "Resize") and bool(node.inputs[0].name)
            move = move_of(graph, node)
            sources, results = move or (((node.inputs[0].name,), (key(node),)) if single else ((), ()))
            found = [known[t] for t in sources if t in known]
            if not found:
                yield from self._given(graph, node, known)
                continue
            known.update((t, found[0]) for t in results)
            whole = node.op != "Concat" or len(sources) == len(node.inputs)
            alike = len(found) == len(sources) and all(_same(graph, found[0], other) for other in found)
            filled = _filled(graph, node, found[0]) if node.op == "Pad" else []
            fits = whole and alike and filled is not None
            stays = (
                "export the model with Q/DQ pairs"
                if alike
                else "export the model with Q/DQ pairs: the inputs have different scales"
            )
            verb, safety = ("moves", None) if move or node.op == "Pad" else ("interpolates", Safety.LOSSY)
            yield self.finding(
                node,
                f"{node.op} {verb} the integers '{sources[0]}'",
                help="run it on float values, between DQ and Q" if fits else stays,
                edits=[_between(graph, node, sources, results, found[0], filled or ())] if fits else (),
                safety=safety,
            )

    def _cast(self, graph: Graph, node: Node, known: dict[str, Parameters]) -> Iterator[Finding]:
        """Yields the finding about Casts between Q and DQ that return to the original type."""
        read = node.inputs[0].name
        source = read
        wanted: tuple[int | None, ...] = (graph.dtype(read),)
        while (cast := graph.producer(source)) is not None and cast.op == "Cast" and cast.attrs.get("to") in wanted:
            source, wanted = cast.inputs[0].name, WIDER
        if node.op != "DequantizeLinear" and source not in known:
            return
        kinds = [graph.dtype(name) for name in (source, read)]
        if source != read and kinds[0] == kinds[1] and kinds[0] in BYTES:
            whose = "their DequantizeLinear" if node.op == "DequantizeLinear" else node.op
            yield self.finding(
                node,
                f"Casts separate the integers '{source}' from {whose}",
                help="read the integers directly",
                edits=[Rewire((key(node), 0), source)],
            )

    def _given(self, graph: Graph, node: Node, known: dict[str, Parameters]) -> Iterator[Finding]:
        """Yields the finding about a data-movement op on stored integers or on an integer graph input, for example a
        quantized embedding or a transposed input."""
        if node.op not in ONE_TO_ONE or len(node.outputs) != 1 or graph.is_constant(key(node)):
            return
        table, result = node.inputs[0].name, key(node)
        array = graph.array(table)
        if array is None and table not in graph.inputs:
            return
        if graph.dtype(table) not in BYTES:
            return
        readers, parameters = graph.readers(result), _parameters_after(graph, result)
        if not parameters and array is None:
            return  # not quantized integers: indices, for example
        edits = []
        if parameters:
            known[result] = parameters
            direct = all(r.node.op == "DequantizeLinear" for r in readers)
            edits = [_selected(graph, node, [r.node for r in readers] if direct else [], parameters)]
        yield self.finding(
            node,
            f"{node.op} moves the integers '{table}'",
            help="run it on float values, after a DequantizeLinear"
            if parameters
            else "export the model with Q/DQ pairs",
            edits=edits,
        )


def _compared(graph: Graph, node: Node, parameters: Parameters) -> Graft:
    """Returns the node on the dequantized values, which have the same order as the integers."""
    real = f"{key(node)}_operand"
    nodes = [
        make_node("DequantizeLinear", [node.inputs[0].name, *parameters], real),
        make_node(node.op, [real, *(t.name for t in node.inputs[1:])], key(node), attributes(graph, node)),
    ]
    return replace([node], nodes)


def _channels_first(graph: Graph, node: Node) -> Graft:
    """Returns an NhwcMaxPool as a MaxPool of the integers between two Transposes; later findings repair those."""
    name, last = key(node), len(node.attrs["kernel_shape"]) + 1
    nodes = [
        make_node("Transpose", [node.inputs[0].name], f"{name}_nchw", perm=[0, last, *range(1, last)]),
        make_node("MaxPool", [f"{name}_nchw"], f"{name}_pooled", attributes(graph, node)),
        make_node("Transpose", [f"{name}_pooled"], name, perm=[0, *range(2, last + 1), 1]),
    ]
    return replace([node], nodes)


def _parameters_after(graph: Graph, tensor: str) -> Parameters:
    """Returns the scale and zero-point of every DequantizeLinear downstream of an integer tensor, through data-movement
    ops; empty if they differ, are not constant, or another operator reads the integers."""
    found: list[Parameters] = []
    pending, seen = [tensor], set[str]()
    while pending:
        name = pending.pop()
        seen.add(name)
        if name in graph.outputs:
            return ()
        for reader in graph.readers(name):
            move = move_of(graph, reader.node)
            if reader.node.op == "DequantizeLinear" and reader.index == 0 and _plain(graph, reader.node):
                found.append(tuple(t.name for t in reader.node.inputs[1:3]))
            elif reader.index == 0 and move is not None and len(move[0]) == 1:
                pending += [made for made in move[1] if made not in seen]
            else:
                return ()
    return found[0] if found and all(_same(graph, found[0], other) for other in found) else ()


def _selected(graph: Graph, node: Node, dequantizes: list[Node], parameters: Parameters) -> Graft:
    """Returns the node on float values, which replaces each DequantizeLinear after it; for other consumers the values
    are requantized, which is exact."""
    name, others = key(node), [t.name for t in node.inputs[1:]]
    real = make_node("DequantizeLinear", [node.inputs[0].name, *parameters], f"{name}_operand")
    made = [key(d) for d in dequantizes] or [f"{name}_real"]
    nodes = [real, *(make_node(node.op, [f"{name}_operand", *others], m, attributes(graph, node)) for m in made)]
    if not dequantizes:
        nodes.append(make_node("QuantizeLinear", [f"{name}_real", *parameters], name))
    return replace([node, *dequantizes], nodes)


def _plain(graph: Graph, node: Node) -> bool:
    """Returns whether a Q or DQ has a constant per-tensor scale and no output_dtype attribute."""
    scale = graph.value(node.inputs[1].name)
    return scale is not None and scale.size == 1 and not node.attrs.get("output_dtype")


def _same(graph: Graph, a: Parameters, b: Parameters) -> bool:
    if a == b:
        return True
    values = [(graph.value(x), graph.value(y)) for x, y in zip(a, b, strict=False)]
    return len(a) == len(b) and all(x is not None and y is not None and np.array_equal(x, y) for x, y in values)


def _filled(graph: Graph, node: Node, parameters: Parameters) -> list[Any] | None:
    """Returns the Constant with the dequantized fill value of a Pad; empty for modes without one, None if unknown."""
    if node.attrs.get("mode", "constant") != "constant":
        return []
    given = input_name(node, 2)
    value = graph.value(given) if given else np.zeros(())
    scale, zero = (
        graph.value(parameters[0]),
        graph.value(parameters[1]) if len(parameters) > 1 and parameters[1] else np.zeros(()),
    )
    if graph.opset < 11 or value is None or scale is None or zero is None or value.size != 1 or zero.size != 1:
        return None
    steps = np.float32(float(value.reshape(())) - float(zero.reshape(())))
    return [
        make_constant(f"{key(node)}_fill", np.asarray(steps * scale.reshape(()).astype(np.float32)).astype(scale.dtype))
    ]


def _between(
    graph: Graph,
    node: Node,
    sources: tuple[str, ...],
    results: tuple[str, ...],
    parameters: Parameters,
    filled: Sequence[Any] = (),
) -> Graft:
    name = key(node)
    real = {t: f"{name}_operand{i}" for i, t in enumerate(dict.fromkeys(sources))}
    made = {t: f"{t}_real" for t in results}
    inputs = [real.get(t.name, t.name) for t in node.inputs]
    outputs = [made.get(t.name, t.name) for t in node.outputs]
    if filled:
        inputs[2:3] = [filled[0].output[0]]
    return replace(
        [node],
        [
            *filled,
            *(make_node("DequantizeLinear", [t, *parameters], real[t]) for t in real),
            make_node(node.op, inputs, outputs, attributes(graph, node)),
            *(make_node("QuantizeLinear", [made[t], *parameters], t) for t in results),
        ],
    )
