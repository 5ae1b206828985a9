"""QDQ414."""

from collections.abc import Iterator

import numpy as np

from qdqgraph import (
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
    """An operator moves integers that were quantized in front of it.

    Why: TensorRT reads Q and DQ as one rounding; integers between them are not a tensor that other operators may read.
    The same move of the real numbers, between a pair of its own, gives the same integers, and TensorRT takes Q and DQ
    across it. The QOperator form has such moves: MaxPool, Reshape, Transpose, Concat on INT8 or UINT8.
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
            if node.op == "QuantizeLinear":
                known[key(node)] = tuple(t.name for t in node.inputs[1:3])
            move = moved(graph, node)
            if move is None:
                continue
            sources, results = move
            found = [known[t] for t in sources if t in known]
            if not found:
                continue
            known.update((t, found[0]) for t in results)
            fits = len(found) == len(sources) and all(_same(graph, found[0], other) for other in found)
            yield self.finding(
                node,
                f"{node.op} moves the integers '{sources[0]}'",
                help="move the real numbers, between DQ and Q" if fits else "export the model with Q/DQ pairs",
                edits=[_between(graph, node, sources, results, found[0])] if fits else (),
            )


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
