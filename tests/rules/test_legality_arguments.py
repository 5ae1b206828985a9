"""QDQ429: values that say how an operator computes are not quantized, and each of them gets one finding."""

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import RepairError
from qdqgraph.rulekit import Graph
from tests.support.paths import ROOT

HEAD = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,8,8] x) => (float[a,b,c,d] y) <float s = {0.1}, int8 z = {0}, %s>
{ q = QuantizeLinear (x, s, z) p = DequantizeLinear (q, s, z) %s }"""


def model(constants: str, nodes: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD % (constants, nodes))


def test_rounded_factors_of_a_resize_are_one_finding_that_says_what_is_meant() -> None:
    """The batch and channel factors of a public report: 1 became 0.996, so the output is empty."""
    found = model(
        "uint8[4] f = {127, 127, 255, 255}, float fs = {0.007843138}, uint8 fz = {0}",
        'k = DequantizeLinear (f, fs, fz) y = Resize <mode = "nearest"> (p, , k)',
    )
    (finding,) = qdqgraph.check(found)
    assert finding.code == "QDQ429" and "[0.996078, 0.996078, 2, 2], where [1, 1, 2, 2] is meant" in finding.message
    with pytest.raises(RepairError, match=r"QDQ429 (.|\n)* add --also QDQ429"):
        qdqgraph.fix(found)
    repaired = qdqgraph.fix(found, also=("QDQ429",))
    assert not repaired.left
    kept = Graph(repaired.model).value("k")
    assert kept is not None and kept.tolist() == [1, 1, 2, 2] and kept.dtype == np.float32


ARGUMENTS = [
    ("int8[1] f = {2}, float fs = {1}, int64[1] e = {8}, int64[1] a = {3}", "c = Cast <to = 7> (k) y = Slice (p, c, e, a)", "starts"),
    ("int8[2] f = {2, 32}, float fs = {2}, int64[2] one = {1, 1}", "c = Cast <to = 7> (k) j = Concat <axis = 0> (one, c) y = Reshape (p, j)", "shape"),
    ("int8[1] f = {3}, float fs = {1}", "c = Cast <to = 7> (k) y, i = TopK (p, c)", "K"),
    ("int8[4] f = {1, 1, 2, 2}, float fs = {1}", "c = Cast <to = 7> (k) y = Tile (p, c)", "repeats"),
    ("int8[8] f = {0,0,0,0,1,1,1,1}, float fs = {1}, float[4] t = {1, 1, 2, 2}", "y = Resize (p, k, t)", "roi"),
]  # fmt: skip


@pytest.mark.parametrize(("constants", "nodes", "name"), ARGUMENTS, ids=[a[2] for a in ARGUMENTS])
def test_whole_numbers_are_stored_without_a_change(constants: str, nodes: str, name: str) -> None:
    found = model(constants, f"k = DequantizeLinear (f, fs, z) {nodes}")
    (finding,) = qdqgraph.check(found)
    assert finding.code == "QDQ429" and f"the `{name}` of " in finding.message
    result = qdqgraph.fix(found, numerics=True, exact=True)
    assert result.numbers is not None and result.numbers.outputs["y"].identical and not result.left


def test_a_constant_that_is_also_data_is_none() -> None:
    found = model(
        "int8[4] f = {1, 1, 2, 2}, float fs = {1}, int64[4] t = {1, 4, 8, 8}",
        'k = DequantizeLinear (f, fs, z) r = Resize <mode = "nearest"> (p, , k) u = ReduceSum <keepdims = 0> (k) y = Add (r, u)',
    )
    assert "QDQ429" not in {f.code for f in qdqgraph.check(found)}


def test_the_report_is_right_as_it_was_filed() -> None:
    path = ROOT.parent / "shared" / "cases" / "14-resize-scales-quantized" / "model.onnx"
    if not path.exists():
        pytest.skip("the cases are not here")
    assert [f.code for f in qdqgraph.check(path)] == ["QDQ429"]
