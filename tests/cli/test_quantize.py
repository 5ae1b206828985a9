"""The command quantize: files in and out, messages, exit codes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.calibration.tables import tensorrt
from qdqgraph.cli.main import main
from qdqgraph.model.text import parse

FLOAT = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,4,4] x) => (float[1,1,4,4] y)
    <float[1,1,1,1] w = {1.27}, float[1,1,1,1] v = {-1}>
    {
        a = Conv (x, w)
        r = Relu (a)
        y = Conv (r, v)
    }"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    onnx.save(parse(FLOAT), tmp_path / "float.onnx")
    random = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=random.normal(size=(3, 1, 4, 4)).astype(np.float32))
    (tmp_path / "ranges.cache").write_text(tensorrt.written({"x": 0.5, "r": 0.25, "old_name": 1.0}))
    (tmp_path / "half.cache").write_text(tensorrt.written({"x": 0.5}))
    return tmp_path


def test_data_a_plan_and_undo(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out, plan = files / "float.onnx", files / "int8.onnx", files / "plan.json"
    arguments = ["quantize", str(given), "-o", str(out), "--data", str(files / "data.npz"), "--plan", str(plan)]
    assert main(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 weighted layers in INT8 instead of 0" in said
    assert "against the float network on 3 samples of your data" in said
    assert main(["check", str(out)]) == 0
    assert main(["undo", str(plan), str(out), "-o", str(files / "back.onnx")]) == 0
    assert (files / "back.onnx").read_bytes() == given.read_bytes()


def test_a_cache_alone_names_what_stays_in_float(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = files / "float.onnx", files / "int8.onnx"
    assert main(["quantize", str(given), "-o", str(out), "--ranges", str(files / "half.cache"), "--no-numerics"]) == 0
    said = capsys.readouterr().out
    assert f"{given}: Conv(y) (Conv): stays in floating point: its input 'r' has no range" in said
    assert "1 of 2 weighted layers in INT8" in said
    arguments = [
        "quantize",
        str(given),
        "--dry-run",
        "--json",
        "--ranges",
        str(files / "ranges.cache"),
        "--except",
        "y",
    ]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["floats"] == [
        {"layer": "Conv(y)", "operator": "Conv", "reason": "excluded by --only or --except"}
    ]
    assert "ranges.cache has 1 tensor that the model does not have: old_name" in shown.err


def test_half_precision_outside_int8(files: Path) -> None:
    given, out = files / "float.onnx", files / "half.onnx"
    assert main(["quantize", str(given), "-o", str(out), "--data", str(files / "data.npz"), "--fp16"]) == 0
    scales = {t.data_type for t in onnx.load(out).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in scales and onnx.TensorProto.FLOAT not in scales


def refused(files: Path, capsys: pytest.CaptureFixture[str], *arguments: str, model: str = "float.onnx") -> str:
    out = files / "never.onnx"
    assert main(["quantize", str(files / model), "-o", str(out), *arguments]) == 2
    assert not out.exists()
    said = capsys.readouterr().err
    assert said.startswith("qdqgraph: ") and said.count("\n") == 1
    return said


def test_what_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, cache = str(files / "data.npz"), str(files / "ranges.cache")
    assert "give --data, --ranges, or both" in refused(files, capsys)
    assert "matches '/head/*'" in refused(files, capsys, "--data", data, "--except", "/head/*")
    (files / "notes.txt").write_text("these are no ranges\n")
    assert "unknown format; --ranges accepts a TensorRT" in refused(files, capsys, "--ranges", str(files / "notes.txt"))
    assert "not a file of statistics" in refused(files, capsys, "--ranges", data)
    assert "cannot be read" in refused(files, capsys, "--ranges", str(files / "missing"))
    (files / "text.onnx").write_text("no model")
    assert "text.onnx" in refused(files, capsys, "--data", data, model="text.onnx")
    assert main(["quantize", str(files / "float.onnx"), "-o", str(files / "int8.onnx"), "--ranges", cache]) == 0
    capsys.readouterr()
    said = refused(files, capsys, "--data", data, model="int8.onnx")
    assert "is quantized already" in said and "qdqgraph fix MODEL -o OUT --data DATA" in said
