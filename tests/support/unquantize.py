"""Rules whose repair takes convolutions out of INT8."""

from collections.abc import Iterator

from qdqgraph.rulekit import Finding, Graph, Rewire, Rule, Safety, Severity, key, pairs


class Unquantize(Rule):
    """A convolution reads a pair, and would read the unquantized tensor after this repair.

    Why: to see what the guard does.
    """

    code, name, safety = "MY901", "unquantize", Safety.LOSSY
    examples = ()

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Conv"):
            pair = pairs(graph).made(node.inputs[0].name)
            if pair is not None:
                yield self.finding(node, "reads a pair", edits=[Rewire((key(node), 0), pair.tensor)])


class Illegal(Unquantize):
    """The same, as an error."""

    code, name, severity = "MY902", "unquantize-error", Severity.ERROR
