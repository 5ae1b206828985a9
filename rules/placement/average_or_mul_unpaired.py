"""QDQ204."""

from collections.abc import Iterator, Mapping, Sequence

from qdqgraph.rulekit import (
    AVERAGES,
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    NodeInput,
    PlacePair,
    Rule,
    Safety,
    activation,
    key,
    normalizations,
    pairs,
    sites,
)


class AverageOrMulUnpaired(Rule):
    """An average pool or a gating Mul between INT8 layers reads its input as float.

    Why: Averages and products do not commute with rounding, so TensorRT runs them in INT8 only as DQ → op → Q. If they
    read the tensor unquantized, it is stored as float in addition to the INT8 copy for the convolutions. In NVIDIA's
    ResNet-18 engine an unquantized global pool costs three kernels, 29 of 731 microseconds.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    (quantizable layers), EfficientNet's Multiply case in
    https://github.com/NVIDIA/TensorRT/blob/main/tools/tensorflow-quantization/tensorflow_quantization/custom_qdq_cases.py
    """

    code, name, safety = "QDQ204", "average-or-mul-unpaired", Safety.LOSSY

    examples = [
        Example(
            "a global pool and a convolution on the same tensor",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,1,1] v)
                <float s = {0.1}, float t = {0.05}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    y = Conv (d, k)
                    p = GlobalAveragePool (x)
                    qp = QuantizeLinear (p, t, z)
                    dp = DequantizeLinear (qp, t, z)
                    v = Conv (dp, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,1,1] v)
                <float s = {0.1}, float t = {0.05}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    y = Conv (d, k)
                    p = GlobalAveragePool (d)
                    qp = QuantizeLinear (p, t, z)
                    dp = DequantizeLinear (qp, t, z)
                    v = Conv (dp, k)
                }""",
        ),
        Counterexample(
            "the Mul of a SiLU is part of the convolution's block",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float t = {0.05}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                g = Sigmoid (c)
                m = Mul (c, g)
                qm = QuantizeLinear (m, t, z)
                y = DequantizeLinear (qm, t, z)
            }""",
        ),
        Counterexample(
            "the Mul of a squared ReLU: an element-wise function of one tensor, like a decomposed GELU or Mish",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float t = {0.05}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                r = Relu (c)
                m = Mul (r, r)
                qm = QuantizeLinear (m, t, z)
                y = DequantizeLinear (qm, t, z)
            }""",
        ),
        Counterexample(
            "the means of a layer normalization, which runs in float",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4,8] x) => (float[1,4,8] y)
            <float s = {0.1}, int8 z = {0}, float two = {2}, float eps = {0.00001}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                a = Relu (d)
                m = ReduceMean <axes = [-1]> (a)
                c = Sub (a, m)
                p = Pow (c, two)
                v = ReduceMean <axes = [-1]> (p)
                e = Add (v, eps)
                r = Sqrt (e)
                n = Div (c, r)
                qn = QuantizeLinear (n, s, z)
                y = DequantizeLinear (qn, s, z)
            }""",
        ),
        Counterexample(
            "the pool feeds a float classifier",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,1,1] v)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
                v = GlobalAveragePool (x)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes(*sorted(AVERAGES), "Mul"):
            if key(node) not in sites(graph).feeds or graph.is_constant(key(node)):
                continue
            if normalizations(graph).computes(node):
                continue
            gating = node.op == "Mul" and activation(graph, node) is None
            if not gating and node.op not in AVERAGES:
                continue
            operands = node.inputs if gating else node.inputs[:1]
            largest = max(graph.elements(t.name) for t in operands)
            unpaired: dict[str, list[NodeInput]] = {}
            for index, tensor in enumerate(operands):
                small = gating and graph.elements(tensor.name) < largest
                if not small and not pairs(graph).made(tensor.name):
                    unpaired.setdefault(tensor.name, []).append((key(node), index))
            if unpaired:
                yield self._operands(graph, node, dict(sorted(unpaired.items())))

    def _operands(self, graph: Graph, node: Node, unpaired: Mapping[str, Sequence[NodeInput]]) -> Finding:
        """Returns one finding per node. Operands with a known scale get their pair even if the others have no scale."""
        known = [tensor for tensor in unpaired if tensor in sites(graph).covered]
        unknown = [tensor for tensor in unpaired if tensor not in known]
        names = " and ".join(f"'{tensor}'" for tensor in unpaired)
        return self.finding(
            node,
            f"the {node.op} between INT8 layers reads {names} as float",
            help=", ".join(
                [
                    *(f"read '{tensor}' through its pair" for tensor in known),
                    *(f"calibrate a quantizer for '{tensor}'" for tensor in unknown),
                ]
            ),
            bytes=4 * sum(graph.elements(tensor) for tensor in unpaired),
            edits=[PlacePair(tensor, tuple(unpaired[tensor]), calibrate=not known) for tensor in known or unknown],
        )
