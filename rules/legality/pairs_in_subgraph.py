"""QDQ422."""

from collections import Counter
from collections.abc import Iterator

from qdqgraph.rulekit import PAIRS, Counterexample, Example, Finding, Graph, Rule, Safety, inner_nodes, label


class PairsInSubgraph(Rule):
    """A subgraph of an If, Loop or Scan contains Q/DQ, which no rule checks.

    Why: TensorRT builds such a subgraph with its pairs, but the rules of qdqgraph see the main graph only: a pair in the
    subgraph keeps its scale, its place and its integer type. An If with a constant condition, and a Loop with a
    constant number of iterations, can be exported without a subgraph.
    Source: measured on TensorRT-RTX 1.7.1, which quantizes convolutions in an If and in a Loop
    """

    code, name, safety = "QDQ422", "pairs-in-subgraph", Safety.MANUAL

    examples = [
        Example(
            "a pair in one branch",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4] x, bool c) => (float[1,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = If (c) <
                    then_branch = t () => (float[1,4] a) {
                        r = QuantizeLinear (x, s, z)
                        a = DequantizeLinear (r, s, z)
                    },
                    else_branch = e () => (float[1,4] b) { b = Relu (d) }
                >
            }""",
        ),
        Counterexample(
            "a branch that reads the output of a pair",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4] x, bool c) => (float[1,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = If (c) <
                    then_branch = t () => (float[1,4] a) { a = Sigmoid (d) },
                    else_branch = e () => (float[1,4] b) { b = Relu (d) }
                >
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes():
            found = [inner.op_type for inner in inner_nodes(graph, node) if inner.op_type in PAIRS]
            if found:
                counts = " and ".join(f"{number} {op}" for op, number in sorted(Counter(found).items()))
                yield self.finding(
                    node,
                    f"the subgraphs of {label(node)} contain {counts}; no rule checks them",
                    help="export the model without the subgraph, or check its pairs yourself",
                )
