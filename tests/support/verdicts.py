"""What the harness says of a rule, and the small graphs that its tests begin with: a pair, and an Identity or a Relu."""

from qdqgraph.authoring import testing
from qdqgraph.rulekit import Rule

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1,1,4,4] x) => (float[1,1,4,4] y)
<float s = {0.1}, int8 z = {0}, float half = {0.5}>
{
    %s
    y = Sigmoid (last)
}"""
BEFORE = MODEL % "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) last = Identity (d)"
AFTER = MODEL % "q = QuantizeLinear (x, s, z) last = DequantizeLinear (q, s, z)"
SILENT = MODEL % "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) r = Relu (d) last = Identity (r)"


def faults(rule: Rule) -> list[str]:
    return [v.fault for v in testing.verdicts(rule) if v.fault]
