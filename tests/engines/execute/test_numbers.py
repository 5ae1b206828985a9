"""Where an engine's numbers differ from ONNX Runtime's: what is stored in 16 bits, what differs alone and accumulated."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph import EngineError, EngineNumbers, ModelError
from qdqgraph.cli.main import main
from qdqgraph.engines.execute.numbers import KernelRow, numbers
from qdqgraph.engines.execute.standalone import standalone
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.graph.graph import Graph
from qdqgraph.model.runtime import run
from qdqgraph.targets.target import Target
from tests.support.graphs import nets
from tests.support.halves import sandwiched
from tests.support.models import build

HALF, SINGLE = np.float16, np.float32
WEIGHTS = np.random.default_rng(4).integers(-100, 100, (4, 4))
"""The integers of `t.conv4`, whose scale is 0.01."""
SHAPE = "float[1,4,8,8]"


def feeds(count: int = 2, spread: float = 4) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.normal(0, spread, (1, 4, 8, 8)).astype(SINGLE)} for _ in range(count)]


def measured(model: onnx.ModelProto, target: str, samples: list[dict[str, np.ndarray]] | None = None) -> EngineNumbers:
    graph = Graph(model, target=Target.named(target))
    return numbers(graph, forecast(graph, ""), feeds() if samples is None else samples, "noise")


def rows(found: EngineNumbers) -> dict[str, KernelRow]:
    return {row.kernel: row for row in found.kernels}


def engine_output(model: onnx.ModelProto, target: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    graph = Graph(model, target=Target.named(target))
    return np.asarray(run(standalone(graph, forecast(graph, "")), [feed], Path())[0][0])


def steps(values: np.ndarray, scale: float) -> np.ndarray:
    return np.clip(np.rint(values / SINGLE(scale)), -128, 127).astype(SINGLE)


def convolved(x: np.ndarray, scale: float = 0.1) -> np.ndarray:
    """`t.conv4` as an INT8 kernel computes it."""
    sums = np.einsum("oi,nihw->nohw", WEIGHTS.astype(np.int64), steps(x, scale).astype(np.int64))
    return sums.astype(SINGLE) * (SINGLE(scale) * SINGLE(0.01))


# What is stored between kernels


def test_a_result_that_nothing_quantizes_is_stored_in_fp16_by_a_weakly_typed_engine_only() -> None:
    model, feed = build(f"g ({SHAPE} x) => ({SHAPE} y) {{ a = t.conv4 (x, s1) y = Softmax (a) }}"), feeds(1)[0]
    exact = convolved(feed["x"])
    half = exact.astype(HALF).astype(SINGLE)
    for target, stored in (("trt-10", half), ("trt-11", exact)):
        wanted = np.exp(stored - stored.max(-1, keepdims=True))
        wanted /= wanted.sum(-1, keepdims=True)
        assert np.allclose(engine_output(model, target, feed), wanted, rtol=1e-6, atol=0)
    row = rows(measured(model, "trt-10", [feed]))["a"]
    assert (row.precision, row.stored, row.reasons) == ("INT8", "FP16", ("sums", "fp16"))
    assert row.alone.largest == pytest.approx(np.abs(half - tensor(model, "a", feed)).max())
    noise = ((half - exact).astype(np.float64) ** 2).sum()
    assert row.alone.sqnr == pytest.approx(10 * np.log10((exact.astype(np.float64) ** 2).sum() / noise), abs=0.01)
    assert rows(measured(model, "trt-11", [feed]))["a"].reasons == ("sums",)


def tensor(model: onnx.ModelProto, name: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    """A tensor of a model in ONNX Runtime."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return np.asarray(run(shown, [feed], Path())[0][0])


def test_a_result_whose_q_is_absorbed_is_not_rounded_to_fp16_before() -> None:
    model, feed = (
        build(f"g ({SHAPE} x) => ({SHAPE} y) {{ a = t.conv4 (x, s1) b = Relu (a) y = t.conv4 (b, s2) }}"),
        feeds(1)[0],
    )
    inner = np.maximum(convolved(feed["x"]), 0)
    for target in ("trt-10", "trt-11"):
        assert np.array_equal(engine_output(model, target, feed), convolved(inner, 0.11))
        row = rows(measured(model, target, [feed]))["b"]
        assert (row.stored, row.reasons) == ("INT8", ("sums",)) and row.scale == pytest.approx(0.11)


def test_a_float_convolution_has_fp16_weights_and_inputs_in_a_weakly_typed_engine() -> None:
    model = build(
        f"g ({SHAPE} x) => ({SHAPE} y) <float[4,4,1,1] w = {{{', '.join(map(str, WEIGHTS.ravel() / 300))}}}> {{ c = Conv (x, w) y = t.pair (c, s1) }}"
    )
    feed = feeds(1)[0]
    low = (WEIGHTS / 300).astype(SINGLE).astype(HALF).astype(np.float64)
    wanted = np.einsum("oi,nihw->nohw", low, feed["x"].astype(HALF).astype(np.float64)).astype(HALF).astype(SINGLE)
    found = engine_output(model, "trt-10", feed)
    row = rows(measured(model, "trt-10", [feed]))["c"]
    assert "fp16-weights" in row.reasons and "sums" not in row.reasons
    assert np.mean(np.rint(found / SINGLE(0.1)) != steps(wanted, 0.1)) < 0.01
    assert np.array_equal(engine_output(model, "trt-11", feed), run(model, [feed], Path())[0][0])


def test_a_network_output_of_a_float_convolution_is_fp16_before_it_is_converted() -> None:
    weights = WEIGHTS / 256  # exact in FP16, as the values of the pair are
    model = build(
        f"g ({SHAPE} x) => ({SHAPE} y) <float s = {{0.5}}, float[4,4,1,1] w = {{{', '.join(map(str, weights.ravel()))}}}> {{ "
        "d = t.pair (x, s) c = Conv (d, w) y = Relu (c) }"
    )
    feed = feeds(1)[0]
    exact = np.maximum(np.einsum("oi,nihw->nohw", weights, steps(feed["x"], 0.5) / 2), 0).astype(SINGLE)
    assert np.array_equal(engine_output(model, "trt-8.6", feed), exact.astype(HALF).astype(SINGLE))
    assert rows(measured(model, "trt-8.6", [feed]))["y"].stored == "FP16"


def test_a_kernel_of_an_fp16_file_rounds_nothing_to_fp16_inside() -> None:
    text = f"g ({SHAPE} x) => ({SHAPE} y) {{ a = t.conv4 (x, s1) b = Relu (a) y = t.conv4 (b, s2) }}"
    model = sandwiched(build(text))
    feed = {"x": feeds(1)[0]["x"].astype(HALF)}
    inner = np.maximum(convolved(feed["x"].astype(SINGLE)), 0)
    found = engine_output(model, "trt-11", feed)
    assert found.dtype == HALF and np.array_equal(found, convolved(inner, 0.11).astype(HALF))
    row = rows(measured(model, "trt-11", [feed]))["b"]
    assert row.reasons == ("sums", "wide")
    differ = steps(inner, 0.11) != steps(tensor_of_half(model, feed), 0.11)
    assert differ.any() and row.alone.differ == pytest.approx(differ.mean()) and row.alone.steps == 1


def tensor_of_half(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT16, None))
    return np.asarray(run(shown, [feed], Path())[0][0]).astype(SINGLE)


# What cannot differ


@pytest.mark.parametrize(
    "moved",
    [
        "m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r)",
        "m = Transpose <perm = [0, 1, 3, 2]> (r)",
        "m = Concat <axis = 1> (r, r)",
        "u = Neg (x) m = Concat <axis = 1> (r, u)",
    ],
)
def test_a_q_that_moves_over_data_movement_changes_nothing(moved: str) -> None:
    conv = "t.conv8" if "Concat" in moved else "t.conv4"
    text = f"{{ a = t.conv4 (x, s1) r = Relu (a) {moved} y = {conv} (m, odd) }}"
    model = build(f"g ({SHAPE} x) => ({SHAPE} y) <float odd = {{0.11371}}> {text}")  # no ties of .5
    found, feed = measured(model, "trt-11"), feeds(1)[0]
    assert not any(row.alone.differ or row.alone.steps for row in found.kernels)
    fused = "MaxPool" in moved  # into the convolution: one kernel, whose result is the pool's
    assert {"r", "m"} & set(rows(found)) == {"m" if fused else "r"}
    reference = run(model, [feed], Path())[0][0]
    assert np.allclose(engine_output(model, "trt-11", feed), reference, rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(model=nets)
def test_with_equal_inputs_no_int8_value_of_any_graph_differs_by_more_than_one_step(model: onnx.ModelProto) -> None:
    for target in ("trt-10", "trt-11"):
        found = measured(model, target, feeds(1, 1.0))
        assert not any("computed in FP32" in note for note in found.notes)
        for row in found.kernels:
            assert row.alone.steps is None or row.alone.steps <= 1
            assert row.alone.sqnr > (50 if row.stored != "INT8" else 20)
        assert set(found.outputs) == {o.name for o in model.graph.output}


@settings(max_examples=12, deadline=None)
@given(model=nets)
def test_a_standalone_model_is_valid_and_computes_what_was_compared(model: onnx.ModelProto) -> None:
    graph = Graph(model, target=Target.named("trt-10"))
    engine, feed = forecast(graph, ""), feeds(1)
    alone = standalone(graph, engine)
    onnx.checker.check_model(alone, full_check=True)
    assert [o.name for o in alone.graph.output] == [o.name for o in model.graph.output]
    both = zip(run(model, feed, Path())[0], run(alone, feed, Path())[0], strict=True)
    found = numbers(graph, engine, feed, "")
    for name, (reference, value) in zip(found.outputs, both, strict=True):
        difference = found.outputs[name]
        assert difference is not None and difference.largest == pytest.approx(float(np.abs(value - reference).max()))


# Graphs that are more than kernels


def test_tensors_that_subgraphs_read_are_those_of_the_engine() -> None:
    text = f"""g ({SHAPE} x) => ({SHAPE} y) {{
        a = t.conv4 (x, s1) s = Softmax (a) t = ReduceMax <keepdims = 0> (s) zero = Constant <value = float {{0}}> ()
        c = Greater (t, zero)
        y = If (c) <then_branch = n () => ({SHAPE} p) {{ p = Neg (s) }}, else_branch = m () => ({SHAPE} q) {{ q = Abs (s) }}> }}"""
    model, feed = build(text), feeds(1)[0]
    half = convolved(feed["x"]).astype(HALF).astype(SINGLE)
    softmax = np.exp(half - half.max(-1, keepdims=True))
    softmax = (softmax / softmax.sum(-1, keepdims=True)).astype(HALF)
    assert np.allclose(engine_output(model, "trt-10", feed), -softmax.astype(SINGLE), rtol=2e-3)


def test_a_long_chain_of_views_is_computed_also_where_the_file_lists_it_in_reverse() -> None:
    """ONNX Runtime sorts the nodes. Python allows 1,000 calls inside each other, fewer than the nodes here."""
    views = "".join(f"v{i + 1} = Transpose <perm = [0, 1, 3, 2]> (v{i})" for i in range(1200))
    model = build(f"g ({SHAPE} x) => ({SHAPE} y) {{ v0 = t.conv4 (x, s1) {views} y = Relu (v1200) }}")
    feed = feeds(1)[0]
    wanted = engine_output(model, "trt-11", feed)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert np.allclose(engine_output(model, "trt-11", feed), wanted, rtol=1e-5)
    assert "y" in rows(measured(model, "trt-11", [feed]))


def test_tensors_whose_shape_depends_on_values_are_not_compared() -> None:
    text = f"""g ({SHAPE} x) => (int64[4,n] y, float[n] v) {{
        a = t.conv4 (x, s1) y = NonZero (a) z = Transpose (y) t = GatherND (a, z) v = Sigmoid (t) }}"""
    found = measured(build(text), "trt-10")
    assert found.skipped == dict.fromkeys("tv", "its shape depends on values")
    assert rows(found)["a"].alone.largest > 0 and found.outputs["y"] is not None


def test_a_kernel_without_known_integers_is_computed_in_fp32_and_named() -> None:
    text = f"""g ({SHAPE} x, float s) => ({SHAPE} y) <int8 z = {{0}}> {{
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) w = Constant <value = float[4,4,1,1] {{{", ".join(["0.5"] * 16)}}}> ()
        k = t.pair (w, s1) y = Conv (d, k) }}"""
    model, sample = build(text), [{**feeds(1)[0], "s": np.array(0.1, SINGLE)}]
    found = measured(model, "trt-11", sample)
    assert found.notes[0] == "derived from documents, not verified on a GPU"
    assert found.notes[-1] == "Conv(y) is computed in FP32: 'd' has no 8-bit integers with a constant scale"
    assert rows(found)["y"].reasons == ()


def test_an_fp8_kernel_is_computed_in_fp32_and_named() -> None:
    text = f"""g ({SHAPE} x) => ({SHAPE} y) <float8e4m3fn z = {{0}}> {{
        q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) w = Constant <value = float[4,4,1,1] {{{", ".join(["0.5"] * 16)}}}> ()
        k = QuantizeLinear (w, s2, z) v = DequantizeLinear (k, s2, z) y = Conv (d, v) }}"""
    found = measured(build(text, opset=19), "trt-11")
    assert found.notes[-1] == "Conv(y) is computed in FP32: 'd' has no 8-bit integers with a constant scale"
    assert found.outputs["y"] is not None and found.outputs["y"].largest == 0


# The call and the command


MODEL = f"g ({SHAPE} x) => ({SHAPE} y) {{ a = t.conv4 (x, s1) b = Softmax (a) y = t.conv4 (b, s2) }}"


def test_the_call_scores_the_model_in_onnx_runtime_and_as_the_engine_computes_it() -> None:
    model, sample = build(MODEL), feeds(3)
    found = qdqgraph.engine_error(model, sample, "trt-10", evaluate=lambda run: float(run(sample[0])["y"].sum()))
    assert found.engine == "trt-10" and found.samples == 3 and found.scores is not None
    assert found.scores.runtime == pytest.approx(float(run(model, sample[:1], Path())[0][0].sum()))
    assert found.scores.engine == pytest.approx(float(engine_output(model, "trt-10", sample[0]).sum()))


def test_a_model_that_the_generation_refuses_has_no_numbers() -> None:
    model = build(
        f"g ({SHAPE} x) => ({SHAPE} y) <uint8 z = {{128}}> {{ q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) y = Relu (d) }}"
    )
    with pytest.raises(
        EngineError, match=r"TensorRT 10\.2 to 10\.16 refuses model\.onnx:\n  q: QDQ402 .*\n.*qdqgraph fix"
    ):
        qdqgraph.engine_error(model, feeds())
    with pytest.raises(ModelError, match="give them with --data"):
        qdqgraph.engine_error(build(MODEL), None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(MODEL), "m.onnx")
    np.savez("d.npz", x=np.concatenate([feed["x"] for feed in feeds()]))
    return tmp_path


COMMAND = ["error", "m.onnx", "--data", "d.npz", "--as", "trt-10", "--no-config"]


def test_the_command_shows_kernels_outputs_reasons_and_the_label(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND) == 0
    out = capsys.readouterr().out
    assert out.startswith("Numbers of trt-10 against ONNX Runtime's, derived from documents, not verified on a GPU\n")
    assert "m.onnx: 3 kernels on 2 samples of d.npz; 0 without any difference\n" in out
    assert "m.onnx: output y: SQNR " in out and "m.onnx: fp16 (2 kernels): " in out
    assert "note: derived from documents, not verified on a GPU\n" in out


def test_json_and_csv_have_the_same_kernels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main([*COMMAND, "--format", "csv"]) == 0
    printed = capsys.readouterr()
    table = list(csv.DictReader(printed.out.splitlines()))
    assert document["evidence"] in printed.err and document["evidence"].endswith("not verified on a GPU")
    assert [row["kernel"] for row in table] == [kernel["kernel"] for kernel in document["kernels"]]
    first = document["kernels"][0]
    assert (
        float(table[0]["differ_alone"]) == first["alone"]["differ"] and table[0]["reasons"].split() == first["reasons"]
    )


@pytest.mark.parametrize("extra", [["--reference", "m.onnx"], ["--target", "trt-11"], ["--provider", "cuda"]])
def test_options_without_effect_are_refused(folder: Path, capsys: pytest.CaptureFixture[str], extra: list[str]) -> None:
    assert main([*COMMAND, *extra]) == 2
    assert f"{' '.join(extra if 'cuda' in extra else extra[:1])} has no effect with --as" in capsys.readouterr().err
