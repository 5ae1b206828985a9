"""A tie by module, where an exporter merged one of the module's quantizers with that of a neighbour."""

from pathlib import Path

import onnx

import qdqgraph
from qdqgraph import Options
from qdqgraph.rulekit.text import TextRule
from tests.support.models import build, scales

RULE = """code = "MY101"
name = "joined"
summary = "S."
why = "W."
source = ["s"]
safety = "lossy"
[tie]
quantizers = ["blocks.*.addop"]
max_bits_lost = 8
"""


def network() -> onnx.ModelProto:
    """blocks.0.addop adds two tensors; the quantizer of the second is that of the convolution that also reads it."""
    model = build("""g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) {
        a = Sigmoid (x) b = Tanh (x)
        qa = QuantizeLinear (a, s1) da = DequantizeLinear (qa, s1)
        qb = QuantizeLinear (b, s5) db = DequantizeLinear (qb, s5)
        y = Add (da, db) v = Neg (db) }""")
    names = {
        "qa": "/blocks.0/addop/_input0_quantizer/QuantizeLinear",
        "qb": "/blocks.0/conv/_input_quantizer/QuantizeLinear",
        "y": "/blocks.0/addop/Add",
        "v": "/blocks.0/conv/Neg",
    }
    for node in model.graph.node:
        node.name = names.get(node.output[0], node.name)
    return model


def test_the_module_is_tied_with_what_it_reads(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(RULE)
    rule = TextRule(file)
    (finding,) = qdqgraph.check(network(), [rule], Options())
    assert finding.message.endswith(
        "0.1 ('a'), 0.14 ('b'); 'blocks.*.addop' matches 1 quantizer, and blocks.0.addop reads 'b' through "
        "blocks.0.conv._input_quantizer, merged with its own"
    )
    assert set(map(tuple, scales(qdqgraph.fix(network(), [rule], Options()).model).values())) == {(0.14,)}


def test_a_quantizer_by_its_own_path_is_that_one(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(RULE.replace("blocks.*.addop", "blocks.*.addop._input0_quantizer"))
    assert not qdqgraph.check(network(), [TextRule(file)], Options())
