"""QDQ431."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Rule,
    Safety,
    key,
    label,
    pair_readers,
    pairs,
)


class WeightsAsOutput(Rule):
    """The integers of a layer's weights are a graph output.

    Why: TensorRT 8 fuses a layer with the QuantizeLinear of its weights, and cannot if the integers are also needed as
    an output: the build ends with "Could not fuse 2nd input (kernel weights) of CONVOLUTION". Exports for debugging have
    such outputs.
    When not: TensorRT-RTX 1.7.1 builds the layer in INT8, and no report about TensorRT 10 or 11 is known: this is
    reported for TensorRT 8 only.
    Source: https://github.com/NVIDIA/TensorRT/issues/1864, measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ431", "weights-as-output", Safety.MANUAL
    by_target = True

    examples = [
        Example(
            "an output to look at the integers",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y, int8[2,1,1,1] i)
            <float s = {0.1}, int8 z = {0}, float[2,1,1,1] w = {0.64, 0.64}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                i = QuantizeLinear <axis = 0> (w, sw, zw)
                k = DequantizeLinear <axis = 0> (i, sw, zw)
                y = Conv (d, k)
            }""",
            target="trt-8.6",
        ),
        Counterexample(
            "a target that accepts it",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y, int8[2,1,1,1] i)
            <float s = {0.1}, int8 z = {0}, float[2,1,1,1] w = {0.64, 0.32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                i = QuantizeLinear <axis = 0> (w, sw, zw)
                k = DequantizeLinear <axis = 0> (i, sw, zw)
                y = Conv (d, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        if graph.target.weights_as_output:
            return
        for pair in pairs(graph):
            integers = pair.tensor if pair.quantize is None else key(pair.quantize)
            layer = _layer(graph, pair) if pair.kind == "weight" and integers in graph.outputs else ""
            if layer:
                yield self.finding(
                    pair.nodes[0],
                    f"the INT8 weights '{integers}' of {layer} are a graph output; {graph.target.title} cannot fuse them",
                    help="remove the output",
                )


def _layer(graph: Graph, pair: Pair) -> str:
    """Returns the label of an INT8 layer that reads the weights; "" if there is none."""
    for reader in pair_readers(graph, pair):
        others = [t.name for i, t in enumerate(reader.node.inputs[:2]) if i != reader.index]
        if reader.node.op in WEIGHTED and reader.index in (0, 1) and all(map(pairs(graph).made, others)):
            return label(reader.node)
    return ""
