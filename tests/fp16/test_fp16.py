"""FP16 around INT8: what becomes FP16, what stays FP32 and why, and where the Casts are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import qdqgraph
from qdqgraph import ModelError
from qdqgraph.calibration.noise import noise
from qdqgraph.calibration.ranges import measured_ranges
from qdqgraph.cli.main import main
from qdqgraph.fp16 import to_fp16
from qdqgraph.model import runtime
from tests.support.fp16 import INTEGERS, OPS, RESIDUAL, X, Y, constants, half, io, ops, reasons, sqnr, weighted
from tests.support.models import build

# Types


def test_a_network_becomes_fp16_without_a_single_cast() -> None:
    made = half(RESIDUAL)
    assert io(made.model) == [TensorProto.FLOAT16] * 2
    assert made.casts == 0 and not made.kept
    assert sqnr(RESIDUAL, made.model) > 35
    read = {name for node in made.model.graph.node for name in node.input}
    assert not any(t.dtype == np.float32 for name, t in constants(made.model).items() if name in read)


def test_keep_io_costs_one_cast_an_input_and_an_output() -> None:
    made = half(build(f"g ({X}) => ({Y}) {{ a = Relu (x) b = Sigmoid (x) y = Add (a, b) }}"), keep_io=True)
    assert io(made.model) == [TensorProto.FLOAT] * 2
    assert ops(made.model) == "Cast Relu Sigmoid Add Cast"
    assert [made.model.graph.input[0].name, made.model.graph.output[0].name] == ["x", "y"]


def test_keep_io_needs_no_cast_at_a_pair() -> None:
    made = half(build(f"g ({X}) => ({Y}) {{ d = t.pair (x, s1) a = Relu (d) y = t.pair (a, s2) }}"), keep_io=True)
    assert made.casts == 0, "a QuantizeLinear takes any type, a DequantizeLinear makes any"


def test_a_dequantize_names_its_type_only_where_its_scale_has_another() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 11, opset_import: ["" : 23]> g (float16[4] x) => (float16[4] y, float16[4] v)
        <float s = {0.02}, float tiny = {1e-30}, float8e4m3fn z = {0}, int8 i = {0}> {
            q = QuantizeLinear (x, s, z)  d = DequantizeLinear <output_dtype = 10> (q, s, z)  y = Relu (d)
            p = QuantizeLinear (x, tiny, i)  e = DequantizeLinear <output_dtype = 10> (p, tiny, i)  v = Relu (e) }"""
    )
    named = {n.output[0]: [a.i for a in n.attribute] for n in half(model).model.graph.node if n.op_type[0] == "D"}
    assert named == {"d": [], "e": [TensorProto.FLOAT16]}


def test_scales_that_were_equal_stay_equal_and_the_rest_follow_their_tensors() -> None:
    text = f"g ({X}) => ({Y}) <float same = {{0.1}}> {{ d = t.pair (x, s1) e = t.pair (d, same) y = Relu (e) }}"
    made = half(build(text), keep_io=True)
    scales = {
        float(constants(made.model)[n.input[1]])
        for n in made.model.graph.node
        if "Quant" in n.op_type or "Deq" in n.op_type
    }
    assert scales == {float(np.float16(0.1))}


def test_types_of_value_info_and_what_was_said_of_the_model_follow() -> None:
    model = onnx.shape_inference.infer_shapes(RESIDUAL)
    model.metadata_props.add(key="names", value="cat")
    model.graph.node[0].metadata_props.add(key="class", value="Conv2d")
    model.graph.node[0].doc_string = "first"
    made = half(model)
    infos = {i.name: i.type.tensor_type.elem_type for i in made.model.graph.value_info}
    assert infos["r"] == infos["c"] == TensorProto.FLOAT16 and "int8" not in str(infos)
    assert made.model.metadata_props[0].value == "cat"
    first = next(n for n in made.model.graph.node if n.output == model.graph.node[0].output)
    assert first.doc_string == "first" and first.metadata_props[0].value == "Conv2d"


def test_shapes_and_the_scales_of_a_resize_are_left_alone() -> None:
    text = f"""g ({X}) => (float[1,4,16,16] y) <float[0] roi = {{}}, float[4] twice = {{1, 1, 2, 2}}> {{
        r = Relu (x) y = Resize <mode = "linear"> (r, roi, twice) }}"""
    made = half(build(text))
    assert constants(made.model)["twice"].dtype == constants(made.model)["roi"].dtype == np.float32
    assert made.casts == 0 and io(made.model)[1] == TensorProto.FLOAT16


def test_arithmetic_on_shapes_and_indices_counts_beyond_what_fp16_holds() -> None:
    text = """g (float[1,N] x) => (int64[1] i, float[1,N] y) <float three = {3}, int64[1] one = {1}> {
        s = Shape (x) n = Gather (s, one) f = Cast <to = 1> (n) d = Div (f, three) i = Cast <to = 7> (d)
        y = Mul (x, d) }"""
    made = half(build(text))
    assert set(reasons(made)) == {"f", "d"} and "integers" in reasons(made)["d"]
    long = np.ones((1, 9001), np.float32)
    assert runtime.run(made.model, [{"x": long.astype(np.float16)}], Path())[0][0] == 3000


def test_an_operator_that_onnx_gives_no_fp16_form_reads_casts() -> None:
    text = """g (float[1,9,4] boxes, float[1,1,9] scores) => (int64[A,3] y) <int64 most = {3}> {
        b = Relu (boxes) s = Sigmoid (scores) y = NonMaxSuppression (b, s, most) }"""
    made = half(build(text))
    assert "does not define it for FP16" in reasons(made)["y"] and made.casts == 2


def test_operators_of_other_domains_stay_fp32_between_casts() -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g ({X}) => ({Y}) {{ a = Relu (x) b = com.microsoft.Gelu (a) c = com.microsoft.Gelu (a) d = Add (b, c) y = Relu (d) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.value_info.extend(helper.make_tensor_value_info(n, 1, [1, 4, 8, 8]) for n in "bc")
    made = half(model)
    assert ops(made.model) == "Relu Cast Gelu Cast Gelu Cast Add Relu", "one Cast for both readers"
    assert "com.microsoft" in reasons(made)["b"]
    assert sqnr(model, made.model) > 60


def test_a_tensor_of_unknown_type_is_not_guessed() -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
    g ({X}) => ({Y}) {{ a = Relu (x) b = mine.Op (a) c = Mul (b, b) y = Add (a, c) }}"""
    made = to_fp16(onnx.parser.parse_model(text))
    assert {"b", "c"} <= set(reasons(made)) and "unknown" in reasons(made)["c"]


def test_what_a_subgraph_reads_keeps_its_name_and_type() -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({X}, bool which) => ({Y}) {{
        r = Relu (x)
        i = If (which) <then_branch = t () => ({X[:-1]}p) {{ p = Neg (r) }}, else_branch = e () => ({X[:-1]}q) {{ q = Abs (r) }}>
        y = Add (i, r) }}"""
    model = onnx.parser.parse_model(text)
    made = half(model)
    assert "subgraphs" in reasons(made)["i"] and made.casts == 2
    feeds = [feed | {"which": np.array(b)} for feed in noise(model) for b in (True, False)]
    assert sqnr(model, made.model, feeds) > 60


def test_weights_that_only_a_subgraph_reads_are_dequantized_once() -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({X}, bool which) => ({Y}) <int8[1,4,8,8] w = {{{", ".join(["3"] * 256)}}}, float s = {{0.1}}> {{
        d = DequantizeLinear (w, s)  q = QuantizeLinear (x, s)  p = DequantizeLinear (q, s)
        y = If (which) <then_branch = t () => ({Y[:-1]}u) {{ u = Add (p, d) }}, else_branch = e () => ({Y[:-1]}v) {{ v = Neg (p) }}> }}"""
    made = half(onnx.parser.parse_model(text)).model
    assert [n.output[0] for n in made.graph.node if n.op_type == "DequantizeLinear"] == ["d", "p"]
    assert half(made).model == made


# Files that are FP16 in part


SANDWICH = """<ir_version: 8, opset_import: ["" : 17]>
g (float16[1,4,8,8] x) => (float16[1,4,8,8] y) <float s = {0.1}, int8 z = {0}, float16 k = {2}> {
    f = Cast <to = 1> (x) q = QuantizeLinear (f, s, z) d = DequantizeLinear (q, s, z) h = Cast <to = 10> (d)
    y = Mul (h, k) }"""


def test_casts_around_pairs_go() -> None:
    made = half(onnx.parser.parse_model(SANDWICH))
    assert ops(made.model) == "QuantizeLinear DequantizeLinear Mul" and not made.kept


def test_fp32_between_fp16_was_put_there_and_stays() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]>
    g (float16[1,4,8,8] x) => (float16[1,4,8,8] y) {
        r = Relu (x) f = Cast <to = 1> (r) e = Exp (f) l = Log (e) h = Cast <to = 10> (l) y = Neg (h) }"""
    made = half(onnx.parser.parse_model(text))
    assert ops(made.model) == "Relu Cast Exp Log Cast Neg"
    assert set(reasons(made)) == {"e", "l"}


# The operator set


def test_the_operator_set_rises_to_19_and_older_forms_follow() -> None:
    text = """<ir_version: 6, opset_import: ["" : 11]>
    g (float[2,3,4] x) => (float[2,3,4] y) { n = Squeeze <axes = [0]> (u) u = Unsqueeze <axes = [0]> (x) y = Softmax <axis = 1> (n) }"""
    model = onnx.parser.parse_model(
        text.replace(
            "n = Squeeze <axes = [0]> (u) u = Unsqueeze <axes = [0]> (x)",
            "u = Unsqueeze <axes = [0]> (x) n = Squeeze <axes = [0]> (u)",
        )
    )
    made = half(model)
    assert made.model.opset_import[0].version == 19 and made.model.ir_version == 9
    assert sqnr(model, made.model) > 60


def test_a_later_operator_set_stays() -> None:
    model = onnx.parser.parse_model(OPS.format('["" : 21]') + f"g ({X}) => ({Y}) {{ y = Relu (x) }}")
    assert half(model).model.opset_import[0].version == 21


def test_a_node_that_cannot_be_converted_to_the_new_opset_is_named() -> None:
    model = onnx.parser.parse_model(OPS.format('["" : 6]') + f"g ({X}) => ({Y}) {{ y = Gone (x) }}")
    with pytest.raises(ModelError, match=r"cannot convert node 'y' \(Gone\) to opset 19"):
        to_fp16(model)


# The command


def test_fix_makes_fp16_its_last_step_and_undo_gives_the_file_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, fixed, plan, back = (str(tmp_path / name) for name in ("m.onnx", "f.onnx", "p.json", "b.onnx"))
    onnx.save(weighted([0.01, 0.02, 1e-7, 0.03], INTEGERS), given)
    assert main(["fix", given, "-o", fixed, "--fp16", "--keep-io", "--diff", "--plan", plan, "--no-config"]) == 0
    printed = capsys.readouterr().out
    assert "1 Casts" not in printed and "y (Conv): stays FP32: the scale of 'k' is as small as 1e-07" in printed
    assert io(onnx.load(fixed)) == [TensorProto.FLOAT] * 2
    assert main(["undo", plan, fixed, "-o", back]) == 0
    assert Path(back).read_bytes() == Path(given).read_bytes()
    assert main(["fix", fixed, "-o", back, "--force", "--fp16", "--keep-io", "--json", "--no-config"]) == 0
    assert '"edits": 0' in capsys.readouterr().out, "a second run changes nothing"


FOLDED = f"""g ({X}) => ({Y}, float[4,4,1,1] v) <int8 z = {{0}}, float[4,4,1,1] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}},
    float[4] sw = {{0.1, 0.2, 0.3, 0.4}}, int8[4] zw = {{0, 0, 0, 0}}> {{
    d = t.pair (x, s1) q = QuantizeLinear <axis = 0> (w, sw, zw) k = DequantizeLinear <axis = AXIS> (q, sw, zw)
    y = Conv (d, k) READER }}"""


@pytest.mark.parametrize(
    ("axis", "reader", "code"),
    [(1, "v = Identity (k)", "QDQ405"), (0, "v = Cast <to = 1> (q)", "QDQ423"), (1, "v = Cast <to = 1> (q)", "QDQ423")],
    ids=["its dequantization has another axis", "a Cast reads the integers", "both"],
)
def test_a_constant_whose_quantization_is_folded_is_repaired_as_the_integers_that_it_becomes(
    axis: int, reader: str, code: str
) -> None:
    """Without its QuantizeLinear, the DequantizeLinear alone tells the axis, and other operators read a constant."""
    model = build(FOLDED.replace("AXIS", str(axis)).replace("READER", reader))
    once = qdqgraph.fix(model, fp16=True)
    assert code in {finding.code for finding in once.applied}
    onnx.checker.check_model(once.model, full_check=True)
    again = qdqgraph.fix(once.model, fp16=True)
    assert not again.plan.edits and again.model.SerializeToString() == once.model.SerializeToString()
    assert not [finding for finding in again.left if finding.severity is qdqgraph.Severity.ERROR]


@pytest.mark.parametrize("options", [["--keep-io"], ["--fp16", "--exact"], ["--fp16", "--weights", "float"]])
def test_options_that_contradict_each_other_write_nothing(options: list[str], tmp_path: Path) -> None:
    onnx.save(RESIDUAL, tmp_path / "m.onnx")
    assert main(["fix", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "f.onnx"), *options]) == 2
    assert not (tmp_path / "f.onnx").exists()


def test_a_target_that_takes_no_fp16_from_the_file_is_told_how_to_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorRT 8.6 reads operator set 17, and its builder chooses FP16 by itself; TensorRT 10 and later take the file."""
    model = build(f"g ({X}) => ({Y}) {{ y = t.conv4 (x, s1) }}")
    onnx.save(model, tmp_path / "m.onnx")
    command = ["fix", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--fp16", "--no-numerics", "--target"]
    assert main([*command, "trt-8.6"]) == 2 and not (tmp_path / "o.onnx").exists()
    assert "build the FP32 file with `trtexec --int8 --fp16`" in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"TensorRT 8\.4 to 8\.6 does not accept FP16 Q/DQ"):
        qdqgraph.fix(model, fp16=True, target="trt-8.6")
    assert main([*command, "trt-10"]) == 0


def test_external_data_are_read_where_they_lie(tmp_path: Path) -> None:
    onnx.save(weighted([0.01] * 4, INTEGERS), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    made = qdqgraph.fix(model, folder=tmp_path, fp16=True)
    assert io(made.model) == [TensorProto.FLOAT16] * 2
    path = qdqgraph.to_fp16(tmp_path / "m.onnx", output=tmp_path / "half.onnx")
    assert onnx.load(tmp_path / "half.onnx", load_external_data=False) == path.model
    for file in tmp_path.iterdir():
        if file.suffix != ".onnx":
            file.unlink()
    with pytest.raises(ModelError, match="missing"):
        to_fp16(model, tmp_path)


# Real networks


def test_a_real_network_is_fp16_and_builds(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_quantization")
    trt = pytest.importorskip("tensorrt_rtx")
    from samples import export

    export.export("yolov5s", tmp_path / "y.onnx", "max", size=64)
    model = onnx.load(tmp_path / "y.onnx")
    made = half(model, ranges=measured_ranges(model, noise(model), Path()))
    assert made.casts == 0 and not made.kept
    assert sqnr(model, made.model) > 15
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(made.model.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    kinds = Counter(str(k.get_output(0).dtype) for k in layers if k.type != trt.LayerType.CONSTANT)
    assert kinds["DataType.HALF"] > 300 and not kinds["DataType.FLOAT"]
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None


def test_a_tensor_of_one_number_takes_the_type_of_what_reads_it() -> None:
    """The first state of an LSTM with a dynamic batch: FP32, it would keep the whole LSTM so."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[3,n,4] x, int64[3] sizes) => (float[3,1,n,2] y) <float[1,8,4] w, float[1,8,2] r> {
            h = ConstantOfShape (sizes) y = LSTM <hidden_size = 2> (x, w, r, , , h, h) }"""
    )
    del model.graph.initializer[:]
    for name, shape in (("w", (1, 8, 4)), ("r", (1, 8, 2))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    made = qdqgraph.to_fp16(model)
    onnx.checker.check_model(made.model, full_check=True)
    assert not made.kept and not made.casts
    (fill,) = (n for n in made.model.graph.node if n.op_type == "ConstantOfShape")
    assert fill.attribute[0].t.data_type == onnx.TensorProto.FLOAT16
    kept = qdqgraph.to_fp16(model, skip=("y",))
    assert {k.op for k in kept.kept} >= {"LSTM", "ConstantOfShape"}


def test_an_output_that_a_pair_produces_in_fp16_has_no_second_dequantization() -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]>
        g (float16[1,4] x) => (float16[1,4] y) <float16 s = {12288}, int8 z = {0}> {
            q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    first = qdqgraph.fix(onnx.parser.parse_model(text), fp16=True, keep_io=True).model
    assert [node.op_type for node in first.graph.node] == ["QuantizeLinear", "DequantizeLinear"]
    assert not qdqgraph.fix(first, fp16=True, keep_io=True).plan.edits
