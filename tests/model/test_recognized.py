"""What a file is, by its content: whatever its name, the message says what it is and what takes it."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.model import kinds
from qdqgraph.model.kinds import Kind
from qdqgraph.model.recognized import kind_of, mistaken
from tests.support.models import build
from tests.support.paths import ROOT

NETWORK = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu (x) y = t.conv4 (a, s1) }"
FLOAT = "<ir_version: 8, opset_import: ['' : 17]> g (float[1,4] x) => (float[1,4] y) { y = Relu (x) }".replace("'", '"')


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return buffer.getvalue()


def wrapped(engine: bytes) -> bytes:
    metadata = json.dumps({"imgsz": [640, 640]}).encode()
    return len(metadata).to_bytes(4, "little") + metadata + engine


def safetensors() -> bytes:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


def arrays(**named: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **named)  # type: ignore[arg-type]
    return buffer.getvalue()


def data(name: str) -> bytes:
    return (ROOT / "tests" / "data" / name).read_bytes()


WRITTEN: dict[str, tuple[bytes, Kind, str]] = {
    "engine": (b"ftrt" + bytes(60), kinds.ENGINE, "qdqgraph engine read layers.json"),
    "engine with metadata": (wrapped(b"ftrt" + bytes(60)), kinds.ENGINE, "--exportLayerInfo=layers.json"),
    "RTX engine": (b"vtrt" + bytes(60), kinds.RTX_ENGINE, "qdqgraph engine build MODEL.onnx --with tensorrt-rtx"),
    "torch.save": (zipped("net/data.pkl", "net/version"), kinds.TORCH, "torch.onnx.export"),
    "torch.jit.save": (zipped("net/data.pkl", "net/constants.pkl"), kinds.TORCH_SCRIPT, "torch.onnx.export"),
    "torch.export.save": (zipped("net/archive_format", "net/models/model.json"), kinds.TORCH_EXPORT, "dynamo=True"),
    "pickle": (pickle.dumps({"w": 1}), kinds.PICKLE, "qdqgraph torch quantize"),
    "safetensors": (safetensors(), kinds.SAFETENSORS, "contains no graph"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(20), kinds.TFLITE, "tf2onnx.convert --tflite"),
    "ORT": (b"\x14\0\0\0ORTM" + bytes(20), kinds.ORT, "the ONNX file that it was converted from"),
    "Keras": (b"\x89HDF\r\n\x1a\n", kinds.KERAS, "tf2onnx"),
    "GGUF": (b"GGUF\x03\0\0\0", kinds.GGUF, "ONNX file"),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="m" version="11">', kinds.OPENVINO, "the ONNX file"),
    "SavedModel": (b"\x08\x01\x12\x90\x10", kinds.SAVED_MODEL, "--saved-model"),
    "gzip": (gzip.compress(b"\x08\x08"), kinds.GZIP, "gunzip -c"),
    "tar.gz": (gzip.compress(tarred()), kinds.TAR_GZIP, "tar -xzf"),
    "tar": (tarred(), kinds.TAR, "tar -xf"),
    "zip": (zipped("net/model.onnx"), kinds.ZIP, "a ZIP archive with net/model.onnx"),
    "half a zip": (zipped("model.onnx")[:40], kinds.DAMAGED_ZIP, "get it again"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", kinds.LFS, "git lfs pull"),
    "git-annex": (b"../.git/annex/objects/SHA256E-s1--ab.onnx\n", kinds.ANNEX, "git annex get"),
    "HTML": (b"\n<!DOCTYPE html><html><title>404</title>", kinds.HTML, "download again"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", kinds.XML, "download again"),
    "layer info": (data("qat.graph.json"), kinds.LAYERS, "qdqgraph engine read"),
    "profile": (data("qat.profile.json"), kinds.PROFILE, "--profile"),
    "times": (b'[{"computeMs": 1, "latencyMs": 2}]', kinds.TIMES, "--times"),
    "log": (b"&&&& RUNNING TensorRT.trtexec [TensorRT v8601]", kinds.LOG, "qdqgraph engine read"),
    "log of a parser": (data("refused-10.log"), kinds.LOG, "qdqgraph engine read"),
    "listed layers": (b"Layers:\nconv1.weight + QuantizeLinear_7 + Conv_9\n", kinds.LOG, "qdqgraph engine read"),
    "plan": (data("plan.json"), kinds.PLAN, "qdqgraph apply"),
    "findings": (data("records/findings.json"), kinds.FINDINGS, "that was checked"),
    "result": (data("records/result.json"), kinds.RESULT, "qdqgraph fix --plan FILE"),
    "calibration cache": (b"TRT-8601-EntropyCalibration2\nx: 3c010a14\n", kinds.CACHE, "--ranges"),
    "AIMET": (b'{"activation_encodings": {}}', kinds.AIMET, "--ranges"),
    "ONNX Runtime's table": (b'{"CLS": "TensorsData", "data": {}}', kinds.ORT_TABLE, "--ranges"),
    "npz": (arrays(x=np.zeros(2)), kinds.ARRAYS, "--data"),
    "npy": (b"\x93NUMPY\x01\0", kinds.ARRAY, "--data"),
    "picture": (b"\x89PNG\r\n\x1a\n", kinds.PICTURE, "--preprocess"),
    "ONNX text": (FLOAT.encode(), kinds.ONNX_TEXT, "format='onnxtxt'"),
    "text of protobuf": (b'ir_version: 8\ngraph {\n name: "g"\n}', kinds.ONNX_TEXT, "format='textproto'"),
    "JSON of protobuf": (b'{"irVersion": "8", "graph": {}}', kinds.ONNX_TEXT, "format='json'"),
    "JSON": (b'{"model_type": "vit"}', kinds.JSON, "this is a JSON document, not an ONNX file"),
    "text": (b"model: yolov8n.onnx\n", kinds.TEXT, "this is a text file, not an ONNX file"),
    "nothing": (b"", kinds.EMPTY, "this is an empty file"),
}


@pytest.mark.parametrize(("content", "kind", "says"), WRITTEN.values(), ids=WRITTEN)
def test_a_file_that_is_no_model_is_named(content: bytes, kind: Kind, says: str, tmp_path: Path) -> None:
    path = tmp_path / "my model.onnx"
    path.write_bytes(content)
    assert kind_of(path) == kind
    with pytest.raises(qdqgraph.ModelError) as found:
        qdqgraph.check(path)
    said = str(found.value)
    assert said.startswith(f"{path}: this is ") and ", not an ONNX file" in said
    assert says in said and "{" not in said and "\n" not in said


def test_the_files_that_the_libraries_write(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "b", _use_new_zipfile_serialization=False)
    assert [kind_of(tmp_path / name) for name in "ab"] == [kinds.TORCH, kinds.PICKLE]


def test_an_ort_file_of_onnxruntime(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx.save(onnx.parser.parse_model(FLOAT), tmp_path / "float.onnx")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    onnxruntime.InferenceSession(tmp_path / "float.onnx", options, providers=["CPUExecutionProvider"])
    assert kind_of(tmp_path / "model.onnx") == kinds.ORT


@pytest.mark.parametrize("format", ["onnxtxt", "textproto", "json"])
def test_the_command_for_a_model_as_text_makes_one(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(onnx.parser.parse_model(FLOAT), "net of text", format=format)
    command = mistaken(Path("net of text"), "an ONNX file").partition("convert it: ")[2]
    subprocess.run(command.replace("python -c", "exec python -c"), shell=True, check=True, env=_python_first())
    assert onnx.load("model.onnx").graph.node[0].op_type == "Relu"


def _python_first() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with pytest.raises(qdqgraph.ModelError, match=r"this is a folder without ONNX files, not an ONNX file$"):
        qdqgraph.check(tmp_path)
    onnx.save(onnx.parser.parse_model(FLOAT), tmp_path / "net" / "a.onnx")
    with pytest.raises(qdqgraph.ModelError, match=r"this is a folder, .*; name a file in it: .*net/a\.onnx"):
        qdqgraph.check(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(qdqgraph.ModelError, match=r"this is a TensorFlow SavedModel.*--saved-model"):
        qdqgraph.check(tmp_path)


def test_a_truncated_model_and_noise(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(build(NETWORK).SerializeToString()[:-9])
    for content in (path.read_bytes(), bytes(range(200, 256)) * 4):
        path.write_bytes(content)
        with pytest.raises(qdqgraph.ModelError, match="not an ONNX model, or truncated"):
            qdqgraph.check(path)


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "check": lambda file: ["check", file],
    "fix": lambda file: ["fix", file, "--dry-run"],
    "quantize": lambda file: ["quantize", file, "--dry-run", "--data", "data.npz"],
    "strip": lambda file: ["strip", file, "--nodes", "*", "-o", "out.onnx"],
    "error": lambda file: ["error", file, "--data", "data.npz"],
    "error --reference": lambda file: ["error", "model.onnx", "--data", "data.npz", "--reference", file],
    "sensitivity": lambda file: ["sensitivity", file, "--data", "data.npz"],
    "tune": lambda file: ["tune", file, "--data", "data.npz"],
    "apply": lambda file: ["apply", "plan.json", file, "-o", "out.onnx"],
    "apply, plan": lambda file: ["apply", file, "model.onnx", "-o", "out.onnx"],
    "undo, plan": lambda file: ["undo", file, "model.onnx", "-o", "out.onnx"],
    "diff": lambda file: ["diff", "model.onnx", file],
    "why": lambda file: ["why", "QDQ101", file, "--at", "x"],
    "draw": lambda file: ["draw", file, "-o", "out.svg"],
    "fix --data": lambda file: ["fix", "model.onnx", "--dry-run", "--data", file],
    "fix --ranges": lambda file: ["fix", "model.onnx", "--dry-run", "--ranges", file],
    "fix --statistics": lambda file: ["fix", "model.onnx", "--dry-run", "--data", "data.npz", "--statistics", file],
    "strip --from": lambda file: ["strip", "model.onnx", "--from", file, "--top", "1", "-o", "out.onnx"],
    "engine read": lambda file: ["engine", "read", file],
    "engine read --profile": lambda file: ["engine", "read", "layers.json", "--profile", file],
    "engine read --times": lambda file: ["engine", "read", "layers.json", "--times", file],
    "engine forecast": lambda file: ["engine", "forecast", file],
    "engine time": lambda file: ["engine", "time", file],
    "engine diff": lambda file: ["engine", "diff", "model.onnx", file],
    "engine draw": lambda file: ["engine", "draw", file, "-o", "out.svg"],
    "engine build": lambda file: ["engine", "build", file, "--with", "openvino"],
}
"""Each argument that takes a model, plan, layer info, ranges or data."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(NETWORK), "model.onnx")
    np.savez("data.npz", x=np.ones((1, 4, 8, 8), np.float32))
    Path("plan.json").write_bytes(data("plan.json"))
    Path("layers.json").write_bytes(data("qat.graph.json"))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_what_the_file_is(
    command: Callable[[str], list[str]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("net.engine", b"ftrt" + bytes(60)), ("page.json", b"<!DOCTYPE html><html>")):
        (folder / name).write_bytes(content)
        assert main([*command(name), "--no-packs"]) == 2
        out, said = capsys.readouterr()
        what = "a TensorRT engine" if name == "net.engine" else "an HTML page"
        assert out == "" and said.startswith(f"qdqgraph: {name}: this is {what}, not ") and said.count("\n") == 1
    assert not (folder / "out.onnx").exists() and not (folder / "out.svg").exists()


def test_content_decides_what_an_engine_command_reads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.onnx").rename("network")
    (folder / "layers.json").rename("layers.onnx")
    assert main(["engine", "time", "network", "--no-packs"]) == 0
    assert main(["engine", "diff", "layers.onnx", "layers.onnx", "--no-packs"]) == 0


def test_samples_are_read_by_content(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data.npz").rename("samples.bin")
    assert main(["error", "model.onnx", "--data", "samples.bin", "--no-packs"]) == 0


def test_the_arguments_of_apply_in_the_wrong_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "model.onnx", "plan.json", "-o", "out.onnx"]) == 2
    assert "this is an ONNX model, not a plan of qdqgraph; the plan comes first: PLAN MODEL" in capsys.readouterr().err


def test_a_float_model_and_a_quantized_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(onnx.parser.parse_model(FLOAT), "float.onnx")
    for command in (["check", "float.onnx"], ["fix", "float.onnx", "--dry-run"]):
        assert main([*command, "--no-packs"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("qdqgraph: float.onnx: this is a float model: it has no QuantizeLinear")
        assert "quantize it first: qdqgraph quantize MODEL -o OUT --data DATA" in said
    assert main(["quantize", "model.onnx", "--dry-run", "--data", "data.npz", "--no-packs"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("qdqgraph: model.onnx: this model is quantized already") and "qdqgraph fix MODEL" in said


def test_external_data_that_is_missing_or_a_pointer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(NETWORK)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(64, np.float32), "spare"))
    onnx.save(model, "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    command = ["fix", "big.onnx", "-o", "out.onnx", "--no-numerics", "--no-packs"]
    (folder / "big.data").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert main(command) == 2
    assert (
        "big.data: this is a Git LFS pointer file, not the external data; get the file itself"
        in capsys.readouterr().err
    )
    (folder / "big.data").unlink()
    assert main(command) == 2
    assert "big.data of " in (said := capsys.readouterr().err) and "is missing; copy or download it too" in said
    assert not (folder / "out.onnx").exists()
