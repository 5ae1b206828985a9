"""SMP203: SMP202 in Python, for every weighted layer, and also for weights that the file stores as integers."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    Rewire,
    Rule,
    Safety,
    input_name,
    key,
    label,
    pairs,
    store_floats,
)

MODEL = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,4,4] x) => (float[1,1,4,4] y)
    <float s = {0.1}, int8 z = {0}, WEIGHTS>
    {
        NODES
    }"""
QUANTIZED = (
    "q = QuantizeLinear (FROM, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear (w, s, z) y = Conv (d, k)"
)


def _model(nodes: str, weights: str = "int8[1,1,1,1] w = {5}") -> str:
    return MODEL.replace("NODES", nodes).replace("WEIGHTS", weights)


class FirstLayerQuantized(Rule):
    """The first layer, which reads a graph input, runs in INT8.

    Why: it has few input channels, so INT8 saves little time, and the rounding of the input is the first error.
    Source: a decision of this sample: score your network with and without it
    """

    code, name, safety = "SMP203", "first-layer-quantized", Safety.LOSSY

    examples = [
        Example(
            "weights as integers",
            before=_model(QUANTIZED.replace("FROM", "x")),
            after=_model("y = Conv (x, k)", "float[1,1,1,1] k = {0.5}"),
        ),
        Counterexample("a later convolution", _model("r = Relu (x) " + QUANTIZED.replace("FROM", "r"))),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        """Yields each weighted layer whose data is a quantized graph input, if its float weights are known."""
        for node in graph.nodes(*WEIGHTED):
            data, weights = (pairs(graph).made(input_name(node, index)) for index in (0, 1))
            if data is None or weights is None or data.tensor not in graph.inputs:
                continue
            edits = [Rewire((key(node), 0), data.tensor)]
            floats = [Rewire((key(node), 1), weights.tensor)] if weights.quantize else store_floats(graph, weights)
            if floats:
                yield self.finding(
                    node,
                    f"'{label(node)}', which reads the graph input '{data.tensor}', runs in INT8",
                    help=f"let it read '{data.tensor}' and its float weights",
                    bytes=4 * graph.elements(key(node)),
                    edits=[*edits, *floats],
                )
