"""QDQ421."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety, Severity, replace


class PairsInFunction(Rule):
    """A local function of the model contains Q/DQ pairs.

    Why: TensorRT refuses such a function if it is called twice, because both calls give their layers the same names.
    Rules and forecasts match patterns in the graph, so they need the nodes in place of the calls. The repair inlines
    the functions of the model, which changes no value. A function that a rule names, in
    `quantized` or in the pattern of a text rule, is not inlined: that rule handles its calls.
    Source: measured on TensorRT-RTX 1.7.1, https://onnx.ai/onnx/repo-docs/IR.html (functions)
    """

    code, name, safety = "QDQ421", "pairs-in-function", Safety.EXACT

    examples = [
        Example(
            "a pair as a function, called for the input and for the weights",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, float[1,1,1,1] w = {0.5}, float t = {0.01}>
            {
                a = local.FakeQuant (x, s, z)
                b = local.FakeQuant (w, t, z)
                y = Conv (a, b)
            }
            <domain: "local", opset_import: ["" : 17]>
            FakeQuant (x, s, z) => (y)
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, float[1,1,1,1] w = {0.5}, float t = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                a = DequantizeLinear (q, s, z)
                r = QuantizeLinear (w, t, z)
                b = DequantizeLinear (r, t, z)
                y = Conv (a, b)
            }""",
        ),
        Counterexample(
            "a function without pairs",
            """
            <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = local.Activation (d)
            }
            <domain: "local", opset_import: ["" : 17]>
            Activation (x) => (y)
            {
                y = Relu (x)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        at: dict[str, list[str]] = {}
        twice = False
        for function in graph.functions:
            if function.quantizes:
                at.setdefault(function.place, []).append(f"'{function.name}'")
                twice = twice or function.calls > 1
        for place, names in at.items():
            node = graph.producer(place)
            if node is not None:
                yield self.finding(
                    node,
                    f"local functions contain Q/DQ: {', '.join(names)}"
                    + ("; TensorRT refuses a function with Q/DQ that is called twice" if twice else ""),
                    help="inline them",
                    severity=Severity.ERROR if twice else None,
                    edits=[replace([], [])],
                    place=place,
                )
