"""Noise that means something: dimensions of one name have one size, and inputs have values that their readers can use."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph import ModelError
from qdqgraph.calibration import trial
from qdqgraph.calibration.noise import noise
from qdqgraph.calibration.sizes import dimensions
from qdqgraph.calibration.trial import run_on_noise
from qdqgraph.model.runtime import Feed
from qdqgraph.rulekit import Graph
from tests.support.models import build


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    imports = f'"" : {opset}, "com.microsoft" : 1'
    return onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{imports}]> {text}")


def run(text: str, opset: int = 17) -> Feed:
    """The noise on which ONNX Runtime runs a model."""
    pytest.importorskip("onnxruntime")
    (feed,) = run_on_noise(parsed(text, opset), Path()).feeds
    return dict(feed)


# Sizes


@pytest.mark.parametrize(
    ("inputs", "shapes"),
    [
        ("float[batch,T,8] x, float[3,batch,4] h", [(1, 16, 8), (3, 1, 4)]),
        ("float[N,T,8] x, float[T,8] h", [(1, 16, 8), (16, 8)]),
        ("float[N,T] x, float[T] h", [(1, 16), (16,)]),
        ("float[N,3,S,S] x, float[N,S] h", [(1, 3, 224, 224), (1, 224)]),
        ("float[N,H,W,3] x, float[1] h", [(1, 224, 224, 3), (1,)]),
    ],
)
def test_one_name_has_one_size(inputs: str, shapes: list[tuple[int, ...]]) -> None:
    (feed,) = noise(parsed(f"g ({inputs}) => (float[a,b] y) {{ y = Identity (x) }}"))
    assert [feed["x"].shape, feed["h"].shape] == shapes


def test_sums_of_dimensions_follow_the_others() -> None:
    """The mask of a decoder with a cache is as long as the cached and the new part together."""
    model = parsed(
        "g (int64[B,S] x, float[B,2,P,4] c, int64[B,M] m, int64[B,D] d) => (int64[B,S] y) { y = Identity (x) }"
    )
    model.graph.input[2].type.tensor_type.shape.dim[1].dim_param = "S + P"
    model.graph.input[3].type.tensor_type.shape.dim[1].dim_param = "un-known"
    (feed,) = noise(model)
    assert feed["m"].shape[1] == feed["x"].shape[1] + feed["c"].shape[2] and feed["d"].shape == (1, 16)


WEIGHTED = [
    ("float[N,C,H,W] x", "float[5,6,1,1] w", "Conv (x, w)", (1, 6, 224, 224)),
    ("float[N,C,T] x", "float[6,2,3] w", "Conv <group = 3> (x, w)", (1, 6, 16)),
    ("float[N,T,K] x", "float[7,5] w", "MatMul (x, w)", (1, 16, 7)),
    ("float[N,K] x", "float[5,7] w", "Gemm <transB = 1> (x, w)", (1, 7)),
    ("float[N,T,K] x", "float[1,77,9] w", "Add (x, w)", (1, 77, 9)),
]


@pytest.mark.parametrize(("given", "weight", "node", "shape"), WEIGHTED)
def test_a_weight_fixes_a_size(given: str, weight: str, node: str, shape: tuple[int, ...]) -> None:
    model = parsed(f"g ({given}) => (float[a,b] y) <float s = {{0.1}}, int8 z = {{0}}> {{ y = Identity (x) }}")
    dims = [int(d) for d in weight.split("[")[1].split("]")[0].split(",")]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(dims, np.float32), "w"))
    paired = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"
    text = parsed(f"g ({given}) => (float[a,b] y) {{ {paired} y = {node.replace('x,', 'd,')} }}")
    del model.graph.node[:]
    model.graph.node.extend(text.graph.node)
    assert noise(model)[0]["x"].shape == shape


def test_the_cache_of_an_attention_is_no_image() -> None:
    text = """g (float[B,2,P,4] k, float[B,2,S,4] q) => (float[B,2,S,P] y) {
        t = Transpose <perm = [0, 1, 3, 2]> (k) y = MatMul (q, t) }"""
    assert {d.name: d.size for d in dimensions(Graph(parsed(text)))} == {"B": 1, "P": 16, "S": 16}


RUNS = [
    # a Reshape with a constant shape: 1 x 77 x 4
    ("float[N,T,4] x", "<int64[3] s = {1, 77, 4}> { y = Reshape (x, s) }", (1, 77, 4)),
    # a table of positions for 50 tokens, after one more token
    ("float[N,T,4] x", "<float[1,1,4] c = {1, 1, 1, 1}, float[1,50,4] p> { a = Concat <axis = 1> (c, x) y = Add (a, p) }", (1, 49, 4)),
    # a classifier on the flattened maps of a 64 x 64 image, halved twice
    ("float[N,1,H,W] x", """<int64[2] s = {1, -1}, float[256,3] w> {
        a = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        b = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a) c = Reshape (b, s) y = MatMul (c, w) }""", (1, 1, 64, 64)),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "body", "shape"), RUNS)
def test_sizes_are_tried_until_the_model_runs(inputs: str, body: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("onnxruntime")
    filled = body.replace("float[1,50,4] p", f"float[1,50,4] p = {{{', '.join(['1'] * 200)}}}")
    filled = filled.replace("float[256,3] w", f"float[256,3] w = {{{', '.join(['1'] * 768)}}}")
    assert run(f"g ({inputs}) => (float[a,b] y) {filled}")["x"].shape == shape


def test_two_names_that_must_have_one_size_get_one() -> None:
    """The first is taken for the height of an image, 224, the second for the length of a sequence, 16."""
    feed = run("g (float[N,1,H,8] x, float[M,T,8] h) => (float[a,b,c,d] y) { y = Add (x, h) }")
    assert feed["x"].shape[2] == feed["h"].shape[1]


def test_no_size_is_tried_that_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three dimensions of 512 are half a gigabyte in FP32, and no size makes this model run."""
    pytest.importorskip("onnxruntime")
    model = parsed("g (float[1,b,d] x, float[n,n,c] h) => (float[a,e,f] y) { y = Concat <axis = 1> (x, h) }")
    largest = []

    def spied(*args: object, **kwargs: object) -> object:
        feeds = noise(*args, **kwargs)  # type: ignore[arg-type]
        largest.append(max(array.size for array in feeds[0].values()))
        return feeds

    monkeypatch.setattr(trial, "noise", spied)
    with contextlib.suppress(ModelError):
        run_on_noise(model, Path())
    assert max(largest) <= 1 << 24


def test_a_model_that_runs_with_no_size_says_what_was_tried() -> None:
    pytest.importorskip("onnxruntime")
    model = parsed("g (float[N,T,4] x) => (float[a,b] y) <int64[2] s = {3, 7}> { y = Reshape (x, s) }")
    with pytest.raises(
        ModelError, match=r"onnxruntime cannot run .* \(\d+ choices of sizes for N, T were tried\); give"
    ):
        run_on_noise(model, Path())


# Values


BODIES = [
    ("indexes of a table", "<float[5,2] t = {1,2,3,4,5,6,7,8,9,10}> { y = Gather (t, x) }", 0, 4),
    ("after Cast, Add, Clip, Unsqueeze", """<float[5,2] t = {1,2,3,4,5,6,7,8,9,10}, int32 one = {1}, int32 low = {0}, int32 high = {4}, int64[1] a = {0}>
        { c = Cast <to = 6> (x) b = Add (c, one) d = Clip (b, low, high) u = Unsqueeze (d, a) y = Gather (t, u) }""", 0, 3),
    ("segments", "<float[2,2] t = {1,2,3,4}> { y = Gather (t, x) }", 0, 0),
    ("classes", "<int64 n = {7}, float[2] v = {0, 1}> { y = OneHot (x, n, v) }", 0, 6),
    ("two tables", "<float[9,1] t = {1,2,3,4,5,6,7,8,9}, float[4,1] u = {1,2,3,4}> { a = Gather (t, x) b = Gather (u, x) y = Add (a, b) }", 0, 3),
    ("a mask: (1 - x) * -10000", "<float one = {1}, float low = {-10000}> { c = Cast <to = 1> (x) i = Sub (one, c) m = Mul (i, low) y = Add (m, c) }", 1, 1),
    ("a mask that is 1 where it removes", "<float low = {-10000}> { c = Cast <to = 1> (x) m = Mul (c, low) y = Add (m, k) }", 0, 0),
    ("Where of a condition", "<float low = {-1e9}> { c = Cast <to = 9> (x) y = Where (c, k, low) }", 1, 1),
    ("Where of an inverted condition", "<float low = {-1e9}, int64 zero = {0}> { c = Equal (x, zero) y = Where (c, low, k) }", 1, 1),
    ("Where of 1 that removes", "<float low = {-1e9}> { c = Cast <to = 9> (x) y = Where (c, low, k) }", 0, 0),
    ("a factor of data", "{ c = Cast <to = 1> (x) y = Mul (c, k) }", 1, 1),
    ("lengths", "<int64 a = {0}, int64 n = {16}, int64 b = {1}> { r = Range (a, n, b) c = Less (r, x) y = Cast <to = 1> (c) }", 16, 16),
    ("a divisor", "{ c = Cast <to = 1> (x) y = Div (k, c) }", 1, 1),
    ("positions", "<float[1] f = {0.1}> { c = Cast <to = 1> (x) a = Mul (c, f) y = Sin (a) }", 0, 15),
]  # fmt: skip


@pytest.mark.parametrize(("what", "body", "low", "high"), BODIES, ids=[b[0] for b in BODIES])
def test_integers_are_what_reads_them(what: str, body: str, low: int, high: int) -> None:
    feed = run(f"g (int64[N,T] x, float[1,16] k) => (float[a,b] y) {body}")
    assert (feed["x"].min(), feed["x"].max()) == (low, high), what


def test_elements_and_tuples_of_indexes_fit_their_axes() -> None:
    feed = run("""g (float[1,6,3] x, int64[1,9,3] e, int64[5,2] n) => (float[1,9,3] y, float[5,3] v)
        { y = GatherElements <axis = 1> (x, e) v = GatherND (x, n) }""")
    assert feed["e"].max() > 2 and feed["n"].max() == 0, "the first axis of a tuple has one element"


SHAPES = [
    ("int64[2] s", "float[1,4]", "Reshape (x, s)", [1, 4]),
    ("int64[4] s", "float[1,1,8,8]", 'Resize <mode = "nearest"> (x, , , s)', [1, 1, 16, 16]),
    ("float[4] s", "float[1,1,8,8]", 'Resize <mode = "nearest"> (x, , s)', [1, 1, 2, 2]),
    ("int64[2] s", "float[3,4]", "Expand (x, s)", [3, 4]),
    ("int64[1] s", "float[3,40]", "TopK (x, s)", [10]),
    ("int64[2] s", "float[3,40]", "Tile (x, s)", [1, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "data", "node", "expected"), SHAPES)
def test_shapes_and_counts_run(given: str, data: str, node: str, expected: list[int]) -> None:
    outputs = "y, i" if node.startswith("TopK") else "y"
    made = "float[a,b,c,d]" if "8,8" in data else "float[a,b]"
    if node.startswith("Reshape"):
        made = "float[1,4]"
    feed = run(f"g ({data} x, {given}) => ({made} y) {{ {outputs} = {node} }}")
    assert feed["s"].tolist() == expected


def test_integers_of_a_pair_fill_their_type() -> None:
    text = (
        "g (uint8[1,3,8,8] x) => (float[1,3,8,8] y) <float s = {0.1}, uint8 z = {0}> { y = DequantizeLinear (x, s, z) }"
    )
    assert run(text)["x"].max() > 200


def test_a_float_input_is_a_mask_only_where_the_other_value_removes() -> None:
    sure = "g (float[1,16] x, float[1,16] k) => (float[1,16] y) <float a = {-1e4}, float o = {1}> { i = Sub (o, x) m = Mul (i, a) y = Add (m, k) }"
    assert run(sure)["x"].tolist() == [[1] * 16]
    assert np.unique(run("g (float[1,16] x, float[1,16] k) => (float[1,16] y) { y = Mul (x, k) }")["x"]).size == 16


def test_the_inputs_of_a_fused_embedding() -> None:
    ones = ", ".join(["1"] * 40)
    text = f"""g (int32[B,S] x, int32[B,S] s) => (float[B,S,2] y, int32[B] m)
        <float[6,2] w = {{1,2,3,4,5,6,7,8,9,10,11,12}}, float[20,2] p = {{{ones}}}, float[2,2] t = {{1,2,3,4}},
         float[2] g1 = {{1,1}}, float[2] b = {{0,0}}>
        {{ y, m = com.microsoft.EmbedLayerNormalization (x, s, w, p, t, g1, b) }}"""
    feed = run(text)
    assert feed["x"].max() == 5 and not feed["s"].any()


def test_a_seed_decides_the_values() -> None:
    model = parsed("g (int64[1,16] x) => (float[1,16,1] y) <float[9,1] t = {1,2,3,4,5,6,7,8,9}> { y = Gather (t, x) }")
    assert np.array_equal(noise(model)[0]["x"], noise(model)[0]["x"])
    assert not np.array_equal(noise(model)[0]["x"], noise(model, seed=1)[0]["x"])


# Ranges


PAIRED = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"
"""Quantized at the input with scale 0.1."""


def test_noise_is_seeded_and_fills_the_range_of_the_inputs_pair() -> None:
    (first,), (again,), (other,) = (noise(build(PAIRED), seed=seed) for seed in (0, 0, 1))
    assert first["x"].tobytes() == again["x"].tobytes() != other["x"].tobytes()
    assert 12 < np.abs(first["x"]).max() <= 12.7


@pytest.mark.parametrize(
    ("body", "largest"),
    [
        pytest.param("f = Transpose (x) y = t.pair (f, s1)", 12.7, id="data movement"),
        pytest.param("f = Relu (x) y = t.pair (f, s1)", 12.7, id="clipping"),
        pytest.param("f = Exp (x) y = t.pair (f, s1)", 1, id="arithmetic"),
        pytest.param("q = QuantizeLinear (x, s1, u) y = DequantizeLinear (q, s1, u)", 25.5, id="UINT8"),
    ],
)
def test_noise_fills_the_range_of_the_pair_that_quantizes_the_input(body: str, largest: float) -> None:
    model = build(f"g (float[64,64] x) => (float[64,64] y) <uint8 u = {{0}}> {{ {body} }}")
    assert 0.99 * largest < np.abs(noise(model)[0]["x"]).max() <= largest


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu (x) }", (1, 3, 224, 224), np.float32),
        ("g (float[N,C,H,W] x) => (float[N,C,H,W] y) { y = Relu (x) }", (1, 3, 224, 224), np.float32),
        ("g (float[N,T,8] x) => (float[N,T,8] y) { y = Relu (x) }", (1, 16, 8), np.float32),
        ("g (int64[N,4] x) => (int64[N,4] y) { y = Identity (x) }", (1, 4), np.int64),
        ("g (bool[4] x) => (bool[4] y) { y = Not (x) }", (4,), np.bool_),
    ],
)
def test_open_dimensions_of_noise(text: str, shape: tuple[int, ...], dtype: type) -> None:
    (feed,) = noise(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))
    assert feed["x"].shape == shape and feed["x"].dtype == dtype


def test_an_input_that_no_memory_can_contain_is_refused() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,9223372036854775807] x) => (float[1,9223372036854775807] y) { y = Relu (x) }""")
    with pytest.raises(ModelError, match=r"'x' has the shape \[1, 9223372036854775807\]"):
        noise(model, 1)
