"""The ways that need a GPU, with programs that replay what real ones exported; and OpenVINO, which needs none."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import main
from qdqgraph.engines.builders import tensorrt_times
from qdqgraph.engines.read.saved import open_engine
from tests.support import replayed_tensorrt
from tests.support.engines import CHAIN, illegal, written
from tests.support.models import build as model_of
from tests.support.paths import DATA

FLOAT = """g (float[N,3,H,W] x) => (float[N,4,H,W] y)
    <float[4,3,1,1] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}> { y = Conv (x, w) }"""


@pytest.fixture
def trtexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH with the program that replays; it is where commands write, too."""
    monkeypatch.setenv("PATH", str(DATA), prepend=":")
    monkeypatch.setenv("REPLAY", "qat")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(log: Path) -> list[str]:
    return shlex.split(log.read_text().splitlines()[0].partition("# ")[2])[1:]


def test_trtexec_builds_with_every_export_and_its_log_kept(trtexec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(model_of(CHAIN), trtexec)
    assert main(["engine", "build", str(file), "--with", "trtexec"]) == 0
    said = capsys.readouterr().out
    assert "model.onnx: trtexec 8.6 --mode qdq" in said
    assert "20 kernels, 8 reformats" in said
    assert "2 runs: median 1.050 ms, 1.450 ms with copies" in said
    folder = trtexec / "model.qdq.trtexec"
    assert {p.name for p in folder.iterdir()} == {
        "layers.json", "profile.json", "times.json", "trtexec.log", "version.log"
    }  # fmt: skip
    given = arguments(folder / "trtexec.log")
    assert {"--int8", "--fp16", "--profilingVerbosity=detailed", "--separateProfileRun", "--dumpProfile"} <= set(given)


@pytest.mark.parametrize(
    ("version", "mode", "has", "has_not"),
    [
        ("8601", "qdq", {"--int8", "--fp16"}, {"--best"}),
        ("8601", "best", {"--best"}, {"--int8", "--fp16"}),
        ("101600", "fp16", {"--fp16"}, {"--int8", "--best"}),
        ("110100", "qdq", set(), {"--int8", "--fp16", "--best", "--separateProfileRun", "--stronglyTyped"}),
    ],
)
def test_the_types_are_told_as_each_version_wants(
    version: str, mode: str, has: set[str], has_not: set[str], trtexec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLAY_VERSION", version)
    file = written(model_of(CHAIN), trtexec)
    assert main(["engine", "build", str(file), "--with", "trtexec", "--mode", mode, "--keep", str(trtexec / "k")]) == 0
    given = set(arguments(trtexec / "k" / "trtexec.log"))
    assert has <= given and not has_not & given


@pytest.mark.parametrize("mode", ["best", "fp16"])
def test_11x_has_neither_best_nor_fp16_and_the_refusal_says_why(
    mode: str, trtexec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPLAY_VERSION", "110000")
    file = written(model_of(CHAIN), trtexec)
    assert main(["engine", "build", str(file), "--with", "trtexec", "--mode", mode]) == 2
    said = capsys.readouterr().err
    assert f"--mode {mode}: trtexec 11" in said
    assert ("strongly typed" in said) if mode == "best" else ("convert the model to FP16" in said)


def test_a_dimension_of_minus_one_is_an_open_one(trtexec: Path) -> None:
    model = model_of(FLOAT)
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        if dim.HasField("dim_param"):
            dim.dim_value = -1
    command = ["engine", "build", str(written(model, trtexec)), "--with", "trtexec", "--keep", str(trtexec / "k")]
    assert main(command) == 0
    assert "--shapes=x:1x3x320x320" in arguments(trtexec / "k" / "trtexec.log")


def test_open_dimensions_are_given_to_trtexec(trtexec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(model_of(FLOAT), trtexec)
    command = ["engine", "build", str(file), "--with", "trtexec", "--mode", "best", "--keep", str(trtexec / "k")]
    assert main(command) == 0
    assert "--shapes=x:1x3x320x320" in arguments(trtexec / "k" / "trtexec.log")
    assert main([*command, "--shape", "x:4x3x64x64", "--force"]) == 0
    assert "--shapes=x:4x3x64x64" in arguments(trtexec / "k" / "trtexec.log")
    for wrong, sentence in (("y:1x3x8x8", "is not an input"), ("x:1x4x8x8", "does not match the input shape ?x3x?x?")):
        capsys.readouterr()
        assert main([*command, "--force", "--shape", wrong]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("version", "log"), [("8601", "refused-8.log"), ("101600", "refused-10.log")])
def test_a_refusal_in_the_log_is_translated(
    version: str, log: str, trtexec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPLAY_VERSION", version)
    monkeypatch.setenv("REPLAY_LOG", log)
    assert main(["engine", "build", str(written(illegal(3, 0.1), trtexec)), "--with", "trtexec"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "refuses model.onnx: Assertion failed: shiftIsAllZeros" in first
    assert second.strip().startswith("in_q: QDQ401")


def test_a_best_engine_and_a_qdq_engine_are_compared(
    trtexec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode, stem in (("best", "qat-residual"), ("qdq", "qat")):
        monkeypatch.setenv("REPLAY", stem)
        file = written(model_of(CHAIN), trtexec)
        out = str(trtexec / f"{mode}.json")
        assert main(["engine", "build", str(file), "--with", "trtexec", "--mode", mode, "-o", out]) == 0
    capsys.readouterr()
    assert main(["engine", "diff", "best.json", "qdq.json"]) == 1
    assert "--mode qdq): 20 kernels, 8 reformats" in capsys.readouterr().out


def test_without_trtexec_the_message_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["engine", "build", str(written(model_of(CHAIN), tmp_path)), "--with", "trtexec"]) == 2
    assert "bin folder of the TensorRT package" in capsys.readouterr().err


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package tensorrt that replays an inspector's answer and runs engines in ONNX Runtime."""
    pytest.importorskip("onnxruntime")
    replayed_tensorrt.write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REPLAY_LAYERS", str(DATA / "qat.graph.json"))
    return tmp_path


def test_the_python_package_of_tensorrt_is_asked_for_layers_and_times(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(model_of(CHAIN), package)
    assert main(["engine", "build", str(file), "--with", "tensorrt", "--keep", str(package / "k")]) == 0
    said = capsys.readouterr().out
    assert "model.onnx: TensorRT 10.9.0" in said and "20 kernels, 8 reformats" in said
    assert "200 runs: median " in said and "layers have no times" not in said
    assert {p.name for p in (package / "k").iterdir()} >= {"layers.json", "profile.json", "times.json", "model.engine"}
    rows = json.loads((package / "k" / "profile.json").read_text())
    assert rows[0] == {"count": 200} and {row["averageMs"] for row in rows[1:]} == {0.5}


@pytest.mark.parametrize(
    ("refuses", "reason"),
    [("cudaMalloc", "the GPU cannot allocate 4,096 bytes for 'x', so layers have no times"),
     ("cudaDeviceSynchronize", "the CUDA runtime reports error 2, so layers have no times")],
)  # fmt: skip
def test_a_gpu_that_refuses_leaves_the_layers_without_times(
    refuses: str, reason: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = replayed_tensorrt.Cuda(refuses)
    monkeypatch.setattr(tensorrt_times, "library", lambda: cuda)
    engine = replayed_tensorrt.engine(model_of(CHAIN))
    assert tensorrt_times.measure(replayed_tensorrt, engine, engine.create_execution_context(), package) == reason
    assert not (package / "times.json").exists()


def test_openvino_measures_an_int8_network_on_this_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    file, out = written(model_of(CHAIN), tmp_path), tmp_path / "e.json"
    assert main(["engine", "build", str(file), "--with", "openvino", "-o", str(out)]) == 0
    engine = open_engine(out)
    convolutions = [x for x in engine.layers if x.kind == "Convolution"]
    assert [x.precision for x in convolutions] == ["INT8", "INT8"]
    assert engine.times is not None and engine.times.compute_ms > 0 and engine.time_ms
    assert any("does not show how TensorRT fuses" in note for note in engine.notes)


def test_openvino_refuses_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    onnx.save(illegal(0, 0.1, "Strange"), tmp_path / "m.onnx")
    assert main(["engine", "build", str(tmp_path / "m.onnx"), "--with", "openvino"]) == 2
    assert "openvino failed with exit code 1; its last output:" in capsys.readouterr().err
