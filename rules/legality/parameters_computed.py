"""QDQ409."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Rule,
    Safety,
    SetPair,
    Severity,
    is_locked,
    key,
    pairs,
)


class ParametersComputed(Rule):
    """A scale or zero-point is computed by operators instead of stored as a constant.

    Why: TensorRT's parser accepts only a constant, or a Cast of one, as a parameter of QuantizeLinear. The repair folds
    whatever computes it from constants, for all versions. TensorRT refuses a scale that is computed at run time.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/onnxOpImporters.cpp,
    https://github.com/NVIDIA/TensorRT/blob/release/11.1/include/NvInfer.h (IQuantizeLayer)
    """

    code, name, safety = "QDQ409", "parameters-computed", Safety.EXACT

    examples = [
        Example(
            "an Identity and a Cast of constants",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s0 = {0.1}, float z0 = {0}>
            {
                s = Identity (s0)
                z = Cast <to = 3> (z0)
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Example(
            "a scale computed from the input",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <int8 z = {0}>
            {
                s = ReduceMax <keepdims = 0> (x)
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "Constant nodes",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            {
                s = Constant <value = float {0.1}> ()
                z = Constant <value = int8 {0}> ()
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            names = dict.fromkeys(t.name for n in pair.nodes for t in n.inputs[1:3] if t.name)
            computed = [name for name in names if (p := graph.producer(name)) is not None and p.op != "Constant"]
            unknown = [name for name in names if graph.value(name) is None]
            if unknown:
                why, help = _unknown(graph, unknown[0])
                yield self.finding(
                    pair.nodes[0],
                    f"'{unknown[0]}', a parameter of the pair of '{pair.tensor}', {why}",
                    help=help,
                    severity=Severity.ERROR,
                )
            elif computed:
                yield self.finding(
                    pair.nodes[0],
                    f"'{computed[0]}', a parameter of the pair of '{pair.tensor}', is the output of an operator",
                    help="store its value as an initializer",
                    edits=_stored(pair),
                    safety=None if all(graph.is_reproducible(name) for name in computed) else Safety.LOSSY,
                )


def _unknown(graph: Graph, tensor: str) -> tuple[str, str]:
    """Returns why the value of a parameter is unknown, and what to do."""
    if not graph.is_constant(tensor):
        return "is computed at run time", "quantize with constant scales"
    producer = graph.producer(tensor)
    if producer is None or producer.op == "Constant":
        return "cannot be read: its external data are missing", "put the external data next to the model"
    return "is computed from constants that cannot be read, or by an operator that onnx.reference cannot compute", (
        "store its value as an initializer"
    )


def _stored(pair: Pair) -> list[SetPair]:
    given = pair.zero_point  # without one the integer type is unknown: QDQ402 reports it
    if pair.scale is None or given is None or pair.scale.ndim > 1 or is_locked(pair):
        return []
    if not 0 < given.size <= pair.scale.size:
        return []
    zero_point = np.broadcast_to(given.reshape(-1) if given.size > 1 else given.reshape(()), pair.scale.shape)
    nodes = tuple(key(n) for n in pair.nodes)
    return [SetPair(nodes, Constant.of(pair.scale), Constant.of(zero_point.astype(given.dtype)), pair.axis)]
