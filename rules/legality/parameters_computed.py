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
    """A scale or a zero-point is the output of operators, not a constant of the file.

    Why: TensorRT's parser takes a constant, or a Cast of one, in front of QuantizeLinear. Identity, Unsqueeze and their
    like are folded here, once for all versions. A scale that the network computes as it runs is refused.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/onnxOpImporters.cpp,
    https://github.com/NVIDIA/TensorRT/blob/release/11.1/include/NvInfer.h (IQuantizeLayer)
    """

    code, name, safety = "QDQ409", "parameters-computed", Safety.EXACT

    examples = [
        Example(
            "an Identity and a Cast",
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
            "a scale that is computed from the input",
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
            "a Constant and a Cast of one are taken",
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
            made = [name for name in names if (p := graph.producer(name)) is not None and p.op != "Constant"]
            unknown = [name for name in names if graph.value(name) is None]
            if unknown:
                stored = graph.is_constant(unknown[0])
                why = (
                    "cannot be read: its external data are missing" if stored else "is computed while the network runs"
                )
                yield self.finding(
                    pair.nodes[0],
                    f"'{unknown[0]}', a parameter of the pair of '{pair.tensor}', {why}",
                    help="put the external data beside the model" if stored else "quantize with constant scales",
                    severity=Severity.ERROR,
                )
            elif made:
                yield self.finding(
                    pair.nodes[0],
                    f"'{made[0]}', a parameter of the pair of '{pair.tensor}', is the output of an operator",
                    help="store its value as an initializer",
                    edits=_stored(pair),
                )


def _stored(pair: Pair) -> list[SetPair]:
    given = pair.zero_point  # without one the file does not say which integers are meant: QDQ402 speaks of that
    if pair.scale is None or given is None or pair.scale.ndim > 1 or given.size > pair.scale.size or is_locked(pair):
        return []
    zero_point = np.broadcast_to(given.reshape(-1) if given.size > 1 else given.reshape(()), pair.scale.shape)
    nodes = tuple(key(n) for n in pair.nodes)
    return [SetPair(nodes, Constant.of(pair.scale), Constant.of(zero_point.astype(given.dtype)), pair.axis)]
