"""Groups: every shape on which pairwise scripts lose a member ends with one scale, and is silent afterwards."""

import numpy as np
import onnx
import pytest

import qdqgraph
from tests.support.models import build, fixed, scales

X = "float[1,4,8,8] x"
Y = "float[1,4,8,8] y"

ONE_GROUP = {
    "concat, a branch read by a convolution": f"""
        g ({X}) => ({Y}, float[1,4,8,8] v) {{
            a = t.conv4 (x, s5)  b = t.conv4 (x, s5)
            c = Concat <axis = 1> (a, b)
            y = t.conv8 (c, s1)  v = t.conv4 (a, s2)
        }}""",
    "concat → max pool → Q": f"""
        g ({X}) => (float[1,4,4,4] y, float[1,4,8,8] v) {{
            a = t.conv4 (x, s5)  b = t.conv4 (x, s5)
            c = Concat <axis = 1> (a, b)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
            y = t.conv8 (p, s1)  v = t.conv4 (a, s2)
        }}""",
    "a Q on the input of a Resize into a Concat (FPN)": f"""
        g ({X}) => (float[1,4,16,16] y, float[1,4,8,8] v) <float[4] up = {{1, 1, 2, 2}}> {{
            a = t.conv4 (x, s5)  v = t.conv4 (a, s2)
            r = Resize <mode = "nearest"> (a, , up)
            b = Resize <mode = "linear"> (x, , up)
            c = Concat <axis = 1> (r, b)
            y = t.conv8 (c, s1)
        }}""",
    "pairs already on the inputs of a Concat": f"""
        g ({X}) => ({Y}) {{
            a = t.conv4 (x, s5)  b = t.conv4 (x, s5)
            pa = t.pair (a, s1)  pb = t.pair (b, s2)
            c = Concat <axis = 1> (pa, pb)
            y = t.conv8 (c, s3)
        }}""",
    "a pair already on the input of a MaxPool": f"""
        g ({X}) => (float[1,4,4,4] y) {{
            a = t.conv4 (x, s5)  p = t.pair (a, s1)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (p)
            y = t.conv4 (m, s2)
        }}""",
    "average pool → split → {convolution, max pool → convolution} (ADown)": f"""
        g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) {{
            i = t.pair (x, s1)
            a = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (i)
            h, k = Split <axis = 1> (a)
            m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (k)
            y = t.conv2 (h, s1)  v = t.conv2 (m, s2)
        }}""",
    "a MaxPool whose first reader is a Concat": f"""
        g ({X}) => ({Y}, float[1,4,8,8] v) {{
            a = t.conv4 (x, s5)
            m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)
            c = Concat <axis = 1> (m, a)
            y = t.conv8 (c, s1)  v = t.conv4 (m, s2)
        }}""",
    "a MaxPool with two Qs after it": f"""
        g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) {{
            a = t.conv4 (x, s5)
            m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)
            y = t.conv4 (m, s1)  v = t.conv4 (m, s2)
        }}""",
    "one tensor in two Concats": f"""
        g ({X}) => ({Y}, float[1,4,8,8] v) {{
            a = t.conv4 (x, s5)  b = t.conv4 (x, s5)  d = t.conv4 (x, s5)
            c = Concat <axis = 1> (a, b)  e = Concat <axis = 1> (a, d)
            y = t.conv8 (c, s1)  v = t.conv8 (e, s2)
        }}""",
    "a Concat in a Concat": f"""
        g ({X}) => ({Y}, float[1,4,8,8] v) {{
            a = t.conv4 (x, s5)  b = t.conv4 (x, s5)  d = t.conv4 (x, s5)
            c = Concat <axis = 1> (a, b)
            e = Concat <axis = 1> (c, d)
            y = t.conv12 (e, s1)  v = t.conv8 (c, s2)
        }}""",
    "three chained pools into a Concat (SPPF)": f"""
        g ({X}) => ({Y}, float[1,4,8,8] v) {{
            a = t.conv4 (x, s5)
            m = MaxPool <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (a)
            n = MaxPool <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (m)
            o = MaxPool <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (n)
            c = Concat <axis = 1> (a, m, n, o)
            y = t.conv16 (c, s1)  v = t.conv4 (n, s2)
        }}""",
    "split → {convolution, concat} (C2f, ELAN)": f"""
        g ({X}) => ({Y}, float[1,4,8,8] v) <int64[1] from = {{0}}, int64[1] to = {{4}}, int64[1] one = {{1}}> {{
            i = t.conv4 (x, s5)
            h, k = Split <axis = 1> (i)
            b = t.conv2 (k, s1)
            c = Concat <axis = 1> (h, k, b)
            d = Slice (c, from, to, one)
            y = t.conv4 (d, s2)  v = t.conv8 (c, s3)
        }}""",
}


@pytest.mark.parametrize("text", ONE_GROUP.values(), ids=ONE_GROUP)
def test_the_group_ends_with_one_scale_and_check_is_silent(text: str, sqnr) -> None:  # type: ignore[no-untyped-def]
    model = build(text)
    result = fixed(model)
    inner = {site: found for site, found in scales(result.model).items() if site != "x"}
    assert len(set().union(*inner.values())) == 1, inner
    assert not qdqgraph.check(result.model, qdqgraph.rules())
    assert sqnr(model, result.model) > 15


CHAIN = ["Identity (a)", "Transpose <perm = [0, 1, 3, 2]> (a)", "Reshape (a, dims)", "Flatten <axis = 1> (a)",
         "Slice (a, from, to)", "Gather <axis = 1> (a, index)", "Tile (a, ones)", "Expand (a, dims)",
         "DepthToSpace <blocksize = 2> (a)", "SpaceToDepth <blocksize = 2> (a)", "Pad (a, pads)",
         'Pad <mode = "reflect"> (a, pads)', 'Resize <mode = "nearest"> (a, , up)', "Unsqueeze (a, axis)"]  # fmt: skip


@pytest.mark.parametrize("move", CHAIN)
def test_values_that_are_only_moved_keep_one_scale(move: str) -> None:
    constants = (
        "int64[4] dims = {1, 4, 8, 8}, int64[4] from = {0, 0, 0, 0}, int64[4] to = {1, 2, 8, 8}, int64[2] index = {2, 0}, "
        "int64[4] ones = {1, 1, 1, 1}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float[4] up = {1, 1, 2, 2}, int64[1] axis = {0}"
    )
    body = f"a = Relu (x) v = t.conv4 (a, s1) m = {move} o = t.pair (m, s2) y = Flatten <axis = 0> (o)"
    result = fixed(build(f"g ({X}) => (float[A,B] y, float[1,4,8,8] v) <{constants}> {{ {body} }}"))
    assert {frozenset(s) for s in scales(result.model).values()} == {frozenset({0.11})}


def test_the_largest_scale_wins_and_the_losers_original_is_kept() -> None:
    result = fixed(build(ONE_GROUP["concat, a branch read by a convolution"]))
    assert [(c.site, round(c.own, 6), round(c.new, 6)) for c in result.changes] == [("c", 0.1, 0.11)]
    assert [(e.key, float(e.value)) for e in result.model.metadata_props] == [
        ("qdqgraph.scale.c", float(np.float32(0.1)))
    ]


def test_a_group_shares_one_scale_initializer() -> None:
    result = fixed(build(ONE_GROUP["one tensor in two Concats"]))
    readers = {n.input[1] for n in result.model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    inits = {i.name: onnx.numpy_helper.to_array(i) for i in result.model.graph.initializer}
    assert sum(bool(np.all(inits[name] == np.float32(0.11))) for name in readers if name in inits) == 1


@pytest.mark.parametrize(
    ("policy", "expected"), [("max", 0.11), ("output", 0.1), ("input", 0.11), ("anchor:c", 0.1), ("fixed:0.12", 0.12)]
)
def test_policies(policy: str, expected: float) -> None:
    result = fixed(build(ONE_GROUP["concat, a branch read by a convolution"]), policy=policy)
    inner = {site: found for site, found in scales(result.model).items() if site != "x"}
    assert set().union(*inner.values()) == {expected}


def test_a_tie_beyond_the_guard_is_refused_with_its_numbers() -> None:
    model = build(ONE_GROUP["concat, a branch read by a convolution"])
    result = fixed(model, max_bits_lost=0.1)
    assert not result.changes
    (left,) = [f for f in result.left if f.tie]
    assert "0.14 bits at 'c' (scale 0.1)" in left.refused and "the limit is 0.1" in left.refused


def test_the_guard_measures_from_the_original_in_later_runs() -> None:
    """Two steps of 0.9 bits each would pass one by one; together they cost 1.8 bits."""
    text = f"""g ({X}) => ({Y}, float[1,4,8,8] v, float[1,4,8,8] u) <float mid = {{0.187}}, float big = {{0.35}}> {{
        a = t.conv4 (x, s5)  b = t.conv4 (x, s5)  d = t.conv4 (x, s5)
        u = t.conv4 (a, s1)
        c = Concat <axis = 1> (a, b)  y = t.conv8 (c, mid)
        e = Concat <axis = 1> (a, d)  v = t.conv8 (e, big) }}"""
    first = fixed(build(text), only=("c",))
    assert [(c.site, round(c.lost, 2)) for c in first.changes] == [("a", 0.9)]
    second = fixed(first.model)
    assert not second.changes
    (left,) = [f for f in second.left if f.tie]
    assert left.place == "e" and "would cost 1.81 bits at 'a' (scale 0.1)" in left.refused


@pytest.mark.parametrize("policy", ["largest", "fixed:0", "fixed:x", "anchor:"])
def test_an_unknown_policy_is_refused(policy: str) -> None:
    with pytest.raises(qdqgraph.RuleError, match="policy"):
        fixed(build(ONE_GROUP["concat, a branch read by a convolution"]), policy=policy)
