"""QDQ429."""

from collections.abc import Iterator, Sequence

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Proposal,
    Reader,
    Rule,
    Safety,
    Severity,
    argument_name,
    argument_readers,
    dequantized_weights,
    key,
    label,
    make_constant,
    pair_readers,
    pairs,
    remove_pair,
    replace,
)

SHOWN = 8
"""Number of values in a message."""


class ArgumentQuantized(Rule):
    """A value that says how an operator computes is quantized: scales of a Resize, starts of a Slice, a shape, a count.

    Why: TensorRT evaluates such inputs while it builds, and refuses INT8 there. Rounding also changes what the network
    computes: a Resize factor of 1 becomes 0.996, and a batch of 1 becomes 0 elements. The stored integers are within
    half a step of the original value, so the repair takes the whole number in that range, which is a guess: it is made
    on request unless it changes nothing. If the file still has the unquantized values, the repair uses them.
    When not: nothing is lost by leaving such values in floating point or INT64.
    Source: measured on TensorRT-RTX 1.7.1 ("SymbolicExecute is not supported for weights type Int8"),
    https://github.com/microsoft/onnxruntime/issues/25113
    """

    code, name, safety = "QDQ429", "argument-quantized", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "factors of a Resize that are whole numbers: stored as float",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,8,8] y)
            <float s = {0.1}, int8 z = {0}, int8[4] f = {2, 2, 4, 4}, float fs = {0.5}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (f, fs, z)
                y = Resize <mode = "nearest"> (d, , k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,8,8] y)
            <float s = {0.1}, int8 z = {0}, float[4] k = {1, 1, 2, 2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Resize <mode = "nearest"> (d, , k)
            }""",
        ),
        Example(
            "the unquantized values are in the file",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,8,8] y)
            <float s = {0.1}, int8 z = {0}, float[4] f = {1, 1, 2, 2}, float fs = {0.5}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                i = QuantizeLinear (f, fs, z)
                k = DequantizeLinear (i, fs, z)
                y = Resize <mode = "nearest"> (d, , k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,8,8] y)
            <float s = {0.1}, int8 z = {0}, float[4] f = {1, 1, 2, 2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Resize <mode = "nearest"> (d, , f)
            }""",
        ),
        Example(
            "a factor of 1 became 0.996: repaired on request",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[a,b,c,d] y)
            <float s = {0.1}, int8 z = {0}, uint8[4] f = {127, 127, 255, 255}, float fs = {0.007843138}, uint8 fz = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (f, fs, fz)
                y = Resize <mode = "nearest"> (d, , k)
            }""",
        ),
        Counterexample(
            "the fill value of a Pad is data: QDQ406",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,6,6] y)
            <float s = {0.1}, int8 z = {0}, float f = {0.5}, int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Pad (d, p, f)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            uses = argument_readers(graph, pair_readers(graph, pair))
            if uses and pair.quantize is not None:
                edits = remove_pair(graph, pair)
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is quantized, but it is {_named(graph, uses)}",
                    help="use the unquantized values" if edits else "export the model without this pair",
                    edits=edits,
                )
            elif uses and pair.kind != "activation":
                yield self._stored(graph, pair, uses)

    def _stored(self, graph: Graph, pair: Pair, uses: Sequence[Reader]) -> Finding:
        """Returns the finding about an argument that the file stores as integers."""
        values, what = dequantized_weights(graph, pair), _named(graph, uses)
        if values is None or pair.scale is None:
            return self.finding(
                pair.nodes[0],
                f"'{pair.tensor}' is quantized, but it is {what}",
                help="export the model without this pair",
            )
        whole = np.rint(values.astype(np.float64))
        near = np.abs(values - whole) <= pair.scale.max() / 2
        meant = np.where(near, whole, values).astype(values.dtype)
        changed = ~np.isclose(values, meant, rtol=1e-6, atol=0)
        edits: list[Proposal] = [replace([d], [make_constant(key(d), meant)]) for d in pair.dequantizes]
        if not changed.any():
            exact = [replace([d], [make_constant(key(d), values)]) for d in pair.dequantizes]
            return self.finding(
                pair.nodes[0],
                f"'{pair.tensor}' is quantized to {pair.types[1].upper()}, but it is {what}",
                help="store the dequantized values",
                edits=exact,
                safety=Safety.EXACT,
            )
        return self.finding(
            pair.nodes[0],
            f"'{pair.tensor}' is quantized to {pair.types[1].upper()}, but it is {what}: {_few(values)}, where "
            f"{_few(meant)} is meant",
            help="store the whole numbers; on request",
            edits=edits,
            safety=Safety.MANUAL,
        )


def _named(graph: Graph, uses: Sequence[Reader]) -> str:
    """Returns what a value is for its consumers: "the `scales` of up"."""
    names = [f"the `{argument_name(r.node, r.index, graph.opset)}` of {label(r.node)}" for r in uses]
    return " and ".join(dict.fromkeys(names))


def _few(values: np.ndarray) -> str:
    shown = [f"{v:.6g}" for v in values.reshape(-1)[:SHOWN].tolist()]
    return f"[{', '.join(shown)}{', …' if values.size > SHOWN else ''}]"
