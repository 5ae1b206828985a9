"""QDQ207."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, PlacePair, Rule, Safety, key, move_of, sites


class ConcatWithoutScale(Rule):
    """A Concat between INT8 layers runs in float, and the graph contains no scale for it.

    Why: If BatchNormalization or an activation separates a Concat from the next Q (pre-activation networks such as
    DenseNet), the Q cannot move up to the Concat, and the branches are written and read as float. A pair after the
    Concat needs a calibrated scale, which the graph does not contain.
    Source: docs/tensorrt.md (a Concat without a Q after it), measured on TensorRT-RTX 1.7.1; placement
    recommendations in
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ207", "concat-without-scale", Safety.LOSSY

    examples = [
        Example(
            "Concat → BatchNormalization → Q",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] a, float[1,1,4,4] b) => (float[1,2,4,4] y)
                <float s = {0.1}, int8 z = {0}, float[2] one = {1, 1}, float[2] zero = {0, 0}>
                {
                    c = Concat <axis = 1> (a, b)
                    n = BatchNormalization (c, one, zero, zero, one)
                    q = QuantizeLinear (n, s, z)
                    y = DequantizeLinear (q, s, z)
                }""",
        ),
        Counterexample(
            "a Q directly after the Concat",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] a, float[1,1,4,4] b) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                c = Concat <axis = 1> (a, b)
                q = QuantizeLinear (c, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "a float head",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] a, float[1,1,4,4] b) => (float[1,1,4,4] v, float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (a, s, z)
                v = DequantizeLinear (q, s, z)
                c = Concat <axis = 1> (a, b)
                y = Sigmoid (c)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        flow = sites(graph)
        for concat in graph.nodes("Concat"):
            move = move_of(graph, concat)
            output = key(concat)
            if move is None or output in flow.wants or output in flow.covered or output not in flow.feeds:
                continue
            yield self.finding(
                concat,
                f"the Concat between INT8 layers runs in float; the graph contains no scale for '{output}'",
                help=f"calibrate a quantizer for '{output}'",
                bytes=4 * graph.elements(output),
                edits=[PlacePair(output, tuple(r.key for r in graph.readers(output) if r.index >= 0), calibrate=True)],
            )
