"""QDQ413."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety


class OpsetTooNew(Rule):
    """The file uses a newer opset than the documentation of the target's parser lists.

    Why: Each TensorRT release documents the newest ONNX opset that its parser supports. A file that declares a newer
    opset but uses none of its new features may still build.
    Source: https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md,
    https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html
    """

    code, name, safety = "QDQ413", "opset-too-new", Safety.MANUAL
    by_target = True

    examples = [
        Example(
            "opset 26",
            before="""
            <ir_version: 12, opset_import: ["" : 26]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "opset 17",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        newest = graph.target.opset
        first = next(iter(graph.nodes("QuantizeLinear", "DequantizeLinear")), None)
        if graph.opset > newest and first is not None:
            yield self.finding(
                first,
                f"the model uses opset {graph.opset}; {graph.target.title} supports up to {newest}",
                help=f"export with opset_version={newest} or lower",
            )
