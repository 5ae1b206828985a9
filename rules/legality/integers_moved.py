"""QDQ414."""

from collections.abc import Iterator

import numpy as np

from qdqgraph import (
    ONE_TO_ONE,
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Rule,
    Safety,
    Severity,
    attributes,
    key,
    moved,
    operator,
    replace,
)

Parameters = tuple[str, ...]
"""Names of scale and zero-point of a tensor of integers."""


class IntegersMoved(Rule):
    """An operator moves integers that were quantized in front of it, or that the file holds.

    Why: TensorRT reads Q and DQ as one rounding; integers between them are not a tensor that other operators may read.
    The same move of the real numbers, between a pair of its own, gives the same integers, and TensorRT takes Q and DQ
    across it. The QOperator form has such moves: MaxPool, Reshape, Transpose, Concat on INT8 or UINT8. An embedding that
    onnxruntime quantized is a Gather of stored integers: its table is dequantized first, and no number changes.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ414", "integers-moved", Safety.EXACT
    severity = Severity.ERROR

    examples = [
        Example(
            "MaxPool of integers",
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
        Counterexample(
            "MaxPool of real numbers",
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
        for node in graph.nodes():
            if node.op == "QuantizeLinear" and _plain(graph, node):
                known[key(node)] = tuple(t.name for t in node.inputs[1:3])
            move = moved(graph, node)
            if move is None:
                yield from self._stored(graph, node, known)
                continue
            sources, results = move
            found = [known[t] for t in sources if t in known]
            if not found:
                continue
            known.update((t, found[0]) for t in results)
            whole = node.op != "Pad" and (node.op != "Concat" or len(sources) == len(node.inputs))
            fits = whole and len(found) == len(sources) and all(_same(graph, found[0], other) for other in found)
            yield self.finding(
                node,
                f"{node.op} moves the integers '{sources[0]}'",
                help="move the real numbers, between DQ and Q" if fits else "export the model with Q/DQ pairs",
                edits=[_between(graph, node, sources, results, found[0])] if fits else (),
            )

    def _stored(self, graph: Graph, node: Node, known: dict[str, Parameters]) -> Iterator[Finding]:
        """The finding about a node that selects from integers that the file holds, as a quantized embedding does."""
        table, result = (node.inputs[0].name, key(node)) if node.inputs else ("", "")
        array = graph.array(table) if node.op in ONE_TO_ONE and len(node.outputs) == 1 else None
        if array is None or array.dtype not in (np.int8, np.uint8) or graph.is_constant(result):
            return
        readers, grid = graph.readers(result), _behind(graph, result)
        edits = []
        if grid:
            known[result] = grid
            direct = result not in graph.outputs and all(r.node.op == "DequantizeLinear" for r in readers)
            made = [key(r.node) for r in readers] if direct else []
            edits = [_selected(graph, node, [r.node for r in readers], made, grid)]
        yield self.finding(
            node,
            f"{node.op} moves the integers '{table}'",
            help="move the real numbers, behind a DequantizeLinear" if grid else "export the model with Q/DQ pairs",
            edits=edits,
        )


def _behind(graph: Graph, tensor: str) -> Parameters:
    """Scale and zero-point that every DequantizeLinear behind the moves of a tensor of integers reads; empty where
    they differ, are not constant, or something else reads the integers."""
    found: list[Parameters] = []
    pending, seen = [tensor], set[str]()
    while pending:
        name = pending.pop()
        seen.add(name)
        if name in graph.outputs:
            return ()
        for reader in graph.readers(name):
            move = moved(graph, reader.node)
            if reader.node.op == "DequantizeLinear" and reader.index == 0 and _plain(graph, reader.node):
                found.append(tuple(t.name for t in reader.node.inputs[1:3]))
            elif reader.index == 0 and move is not None and len(move[0]) == 1:
                pending += [made for made in move[1] if made not in seen]
            else:
                return ()
    return found[0] if found and all(_same(graph, found[0], other) for other in found) else ()


def _selected(graph: Graph, node: Node, dequantizes: list[Node], made: list[str], grid: Parameters) -> Graft:
    """The node on real numbers, once for each DequantizeLinear whose result it makes now; for other readers it makes
    the integers again, which is exact."""
    name = key(node)
    others = [t.name for t in node.inputs[1:]]
    real = operator("DequantizeLinear", [node.inputs[0].name, *grid], f"{name}_table")
    if made:
        nodes = [operator(node.op, [f"{name}_table", *others], m, attributes(graph, node)) for m in made]
        return replace([node, *dequantizes], [real, *nodes])
    moving = operator(node.op, [f"{name}_table", *others], f"{name}_real", attributes(graph, node))
    return replace([node], [real, moving, operator("QuantizeLinear", [f"{name}_real", *grid], name)])


def _plain(graph: Graph, node: Node) -> bool:
    """Whether a Q or DQ has one scale, and its inputs alone say from or to which type it goes."""
    scale = graph.value(node.inputs[1].name)
    return scale is not None and scale.size == 1 and not node.attrs.get("output_dtype")


def _same(graph: Graph, a: Parameters, b: Parameters) -> bool:
    if a == b:
        return True
    values = [(graph.value(x), graph.value(y)) for x, y in zip(a, b, strict=False)]
    return len(a) == len(b) and all(x is not None and y is not None and np.array_equal(x, y) for x, y in values)


def _between(graph: Graph, node: Node, sources: tuple[str, ...], results: tuple[str, ...], grid: Parameters) -> Graft:
    name = key(node)
    real = {t: f"{name}_operand{i}" for i, t in enumerate(dict.fromkeys(sources))}
    made = {t: f"{t}_real" for t in results}
    inputs = [real.get(t.name, t.name) for t in node.inputs]
    outputs = [made.get(t.name, t.name) for t in node.outputs]
    return replace(
        [node],
        [
            *(operator("DequantizeLinear", [t, *grid], real[t]) for t in real),
            operator(node.op, inputs, outputs, attributes(graph, node)),
            *(operator("QuantizeLinear", [made[t], *grid], t) for t in results),
        ],
    )
