"""QDQ413."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety


class OpsetTooNew(Rule):
    """The file uses a newer operator set than the target's parser documents.

    Why: each TensorRT release documents the newest ONNX operator set that its parser takes. A file may claim a newer one
    and use nothing new of it; then it may build all the same.
    Source: https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md,
    https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html
    """

    code, name, safety = "QDQ413", "opset-too-new", Safety.MANUAL
    by_target = True

    examples = [
        Example(
            "operator set 26",
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
            "operator set 17",
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
                f"the model uses operator set {graph.opset}; {graph.target.title} documents {newest}",
                help=f"export with opset_version={newest} or lower",
            )
