"""What runs in float whatever the file says: normalizations written as several nodes, masks, values that a scale loses."""

import onnx
import pytest

import qdqgraph
from qdqgraph.model.text import parse
from qdqgraph.rulekit import Graph, normalizations, pairs, sites
from tests.support.models import fixed
from tests.support.normalizations import CONSTANTS, FORMS

INNER = {name: form for name, form in FORMS.items() if form[1]}


def between_int8(body: str, paired: str = "") -> onnx.ModelProto:
    """The nodes of a form between two pairs, with a pair after each of the named tensors that another node of it reads."""
    nodes = f"qa = QuantizeLinear (x, s, z)  da = DequantizeLinear (qa, s, z)  a = Neg (da)  {body}  "
    for name in paired:
        made = f" {name} = "
        if made in f" {nodes}":
            head, _, tail = f" {nodes}".partition(made)
            nodes = f"{head} {name}_0 = {tail}"
            first = tail.find(")") + 1
            call, rest = tail[:first], tail[first:]
            nodes = (
                f"{head} {name}_0 = {call}  {name}_q = QuantizeLinear ({name}_0, s, z)  "
                f"{name} = DequantizeLinear ({name}_q, s, z) {rest}"
            ).strip()
    nodes += "  qy = QuantizeLinear (y, s, z)  out = DequantizeLinear (qy, s, z)"
    text = f'<ir_version: 8, opset_import: ["" : 17]>\ng (float[1,4,8,8] x) => (float[1,4,8,8] out) <{CONSTANTS}> {{ {nodes} }}'
    return parse(text)


@pytest.mark.parametrize("name", INNER)
def test_no_rule_asks_for_a_pair_inside(name: str) -> None:
    body, letters = INNER[name]
    for finding in qdqgraph.check(between_int8(body)):
        assert finding.place not in set(letters) - {"y"}, finding
        touched = [node for edit in finding.edits for node, _ in getattr(edit, "readers", ())]
        assert not set(touched) & set(letters), finding


@pytest.mark.parametrize("name", [n for n in INNER if n not in ("pairs inside", "a standard deviation that is pooled")])
def test_pairs_inside_are_removed_and_those_around_stay(name: str) -> None:
    body, letters = INNER[name]
    model = between_int8(body, letters.replace("y", ""))
    before, result = Graph(model), fixed(model)
    after = Graph(result.model)
    norm = normalizations(before)
    inside = [p.tensor for p in pairs(before) if any(map(norm.inside, (u.reader for u in sites(before).uses(p.site))))]
    assert inside
    assert not set(inside) & {p.tensor for p in pairs(after)}
    assert {"x", "y"} <= {p.tensor for p in pairs(after)}


def test_a_square_after_a_matmul_is_no_activation_of_it() -> None:
    """The square of an RMSNorm is no activation that fuses into the MatMul."""
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,2] x) => (float[1,2,2] y)
        <float s = {0.1}, int8 z = {0}, int8[2,2] w = {64, 32, 16, 8}, float sw = {0.01}, float two = {2}, float eps = {0.001}>
        {
            k = DequantizeLinear (w, sw, z)
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            a = MatMul (d, k)
            qa = QuantizeLinear (a, s, z)
            da = DequantizeLinear (qa, s, z)
            p = Pow (da, two)
            v = ReduceMean <axes = [-1]> (p)
            e = Add (v, eps)
            r = Sqrt (e)
            n = Div (da, r)
            qn = QuantizeLinear (n, s, z)
            y = DequantizeLinear (qn, s, z)
        }""")
    assert not qdqgraph.check(model)


def test_a_pair_that_is_also_read_outside_stays_for_that_reader() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4,8] x) => (float[1,4,8] y, float[1,4,1] mean)
        <float s = {0.1}, int8 z = {0}>
        {
            m = ReduceMean <axes = [-1]> (x)
            qm = QuantizeLinear (m, s, z)
            mean = DequantizeLinear (qm, s, z)
            y = Sub (x, mean)
        }""")
    result = fixed(model)
    assert [f.code for f in result.applied] == ["QDQ304"]
    (sub,) = (node for node in result.model.graph.node if node.op_type == "Sub")
    assert list(sub.input) == ["x", "m"]
    assert [p.tensor for p in pairs(Graph(result.model))] == ["m"]


MASKED = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x, float[1,1,4,4] hidden) => (float[1,2,4,4] y)
    <float s = {SCALE}, float t = {0.1}, int8 z = {0}, float one = {1}, float lowest = {VALUE}>
    {
        qx = QuantizeLinear (x, t, z)
        dx = DequantizeLinear (qx, t, z)
        MASK
        q = QuantizeLinear (m, s, z)
        d = DequantizeLinear (q, s, z)
        READ
    }"""
ADDED = "h = Sub (one, hidden)  a = Mul (h, lowest)  m = Add (dx, a)"
WHERE = "h = Cast <to = 9> (hidden)  m = Where (h, lowest, dx)"


def masked(mask: str, value: str, scale: str, read: str = "y = Softmax (d)") -> onnx.ModelProto:
    text = MASKED.replace("MASK", mask).replace("VALUE", value).replace("SCALE", scale).replace("READ", read)
    return parse(text)


@pytest.mark.parametrize("mask", [ADDED, WHERE, WHERE.replace("h, lowest, dx", "h, dx, lowest")])
@pytest.mark.parametrize(
    ("value", "scale", "says"),
    [
        ("-10000", "80", "whose scale 80 leaves the values 9.6 bits less than their own"),
        ("-65504", "0.2", "which it clips to -25.6"),
        ("-100", "0.8", "whose scale 0.8 leaves the values 3.0 bits less than their own"),
    ],
)
def test_softmax_reads_masked_scores_unquantized(mask: str, value: str, scale: str, says: str) -> None:
    model = masked(mask, value, scale)
    (finding,) = qdqgraph.check(model)
    assert finding.code == "QDQ107" and says in finding.message
    assert [p.tensor for p in pairs(Graph(fixed(model, also=("QDQ107",)).model))] == ["x"]


def test_softmax_downstream_of_a_reshape_reads_them_so_too() -> None:
    """Exporters flatten around Softmax before opset 13."""
    model = masked(WHERE, "-10000", "80", "f = Flatten (d)  w = Softmax (f)  c = Shape (x)  y = Reshape (w, c)")
    assert [p.tensor for p in pairs(Graph(fixed(model, also=("QDQ107",)).model))] == ["x"]


@pytest.mark.parametrize(("value", "scale"), [("-10000", "5000"), ("-100", "0.15"), ("-3", "0.1")])
def test_a_constant_that_neither_sets_the_scale_nor_masks_is_no_finding(value: str, scale: str) -> None:
    found = [f.message for f in qdqgraph.check(masked(WHERE, value, scale, "y = Relu (d)")) if f.code == "QDQ107"]
    assert not found


BOXES = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4,8] box, float[1,2,8] logit) => (float[1,6,8] y)
    <float s = {5.04}, float t = {0.0078740}, int8 z = {0}>
    {
        qb = QuantizeLinear (box, s, z)
        db = DequantizeLinear (qb, s, z)
        score = Sigmoid (logit)
        qs = QuantizeLinear (score, t, z)
        ds = DequantizeLinear (qs, t, z)
        c = Concat <axis = 1> (db, ds)
        q = QuantizeLinear (c, s, z)
        y = DequantizeLinear (q, s, z)
    }"""


def test_scores_that_a_concat_joins_with_boxes_are_said_to_be_lost_and_are_not_tied() -> None:
    model = parse(BOXES)
    found = {f.code: f for f in qdqgraph.check(model)}
    assert found["QDQ106"].message == "'score' is within [0, 1] and becomes 0 everywhere with the scale 5.04"
    assert found["QDQ101"].refused
    assert not fixed(model).applied


@pytest.mark.parametrize("scale", ["0.0078740", "0.008", "0.0039216", "0.015625", "0.0312"])
def test_scales_near_the_range_are_no_finding(scale: str) -> None:
    """1/127, a little more, 1/255, powers of two, and what two ties of one bit each leave."""
    text = BOXES.replace("t = {0.0078740}", f"t = {{{scale}}}").replace("q = Quant", "e = Neg (c)  q = Quant")
    assert "QDQ106" not in {f.code for f in qdqgraph.check(parse(text.replace("(c, s, z)", "(e, s, z)")))}


DEPTHWISE = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,C,4,4] x) => (float[1,C,4,4] y)
    <float s = {0.1}, int8 z = {0}, int8[C,1,1,1] w = {ONES}, float sw = {0.01}>
    {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        k = DequantizeLinear (w, sw, z)
        y = Conv <group = C> (d, k)
    }"""


@pytest.mark.parametrize(
    ("channels", "target", "found"),
    [(6, "trt-8.6", True), (8, "trt-8.6", False), (6, "trt-10", False), (6, "trt-11", False), (6, "trt-rtx", False)],
)
def test_depthwise_convolutions_lack_kernels_where_a_report_says_so(channels: int, target: str, found: bool) -> None:
    text = DEPTHWISE.replace("ONES", ", ".join(["1"] * channels)).replace("C]", f"{channels}]")
    model = parse(
        text.replace("[C,", f"[{channels},").replace(",C,", f",{channels},").replace("= C>", f"= {channels}>")
    )
    assert ("QDQ305" in {f.code for f in qdqgraph.check(model, target=target)}) == found
