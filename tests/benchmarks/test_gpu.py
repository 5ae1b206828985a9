"""`benchmarks.gpu`: everything but the GPU, with TensorRT-RTX and with the trtexec that replays."""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from benchmarks.gpu import clocks, tensorrt_outputs
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.engines import Result, target
from benchmarks.gpu.outputs import UncheckedError, sqnr
from benchmarks.gpu.table import page
from tests.support import replayed_tensorrt
from tests.support.engines import CHAIN
from tests.support.models import build
from tests.support.paths import DATA

FLOAT = """g (float[1,4,16,16] x) => (float[1,4,16,16] y)
    <float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}> { y = Conv (x, w) }"""


def files(out: Path) -> Path:
    """The folder of a network with the files that a user may give."""
    folder = out / "mine"
    for part in ("calibrate", "check"):
        (folder / part).mkdir(parents=True)
        np.savez(folder / part / "0.npz", x=np.random.default_rng(0).normal(0, 1, (1, 4, 16, 16)).astype(np.float32))
    onnx.save(build(CHAIN), out / "given.onnx")
    onnx.save(build(FLOAT), folder / "float.onnx")
    return folder


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without nvidia-smi and trtexec."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def run(out: Path, library: str, *more: str) -> str:
    """The page after a run over one network of the user."""
    given = ["--add", f"mine={out / 'given.onnx'}", "--wheels", str(out), "--network"]
    assert main([str(out), "--with", library, *more, *given]) == 0
    return (out / "table.md").read_text(encoding="utf-8")


def test_without_a_gpu_the_times_are_empty_and_the_page_says_why(alone: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("onnxruntime")
    out = alone / "out"
    folder = files(out)
    said = run(out, "tensorrt-rtx")
    rows = {line.split(" | ")[1]: line.split(" | ") for line in said.splitlines() if line.startswith("| mine |")}
    assert list(rows) == ["fp16", "exported", "fixed", "data", "modelopt"]
    assert all(cells[5:8] == ["", "", ""] for name, cells in rows.items() if name != "modelopt")
    assert "no times: TensorRT-RTX's CPU build runs nothing (mine fp16, mine exported, mine fixed, mine data)" in said
    assert "no engine: no file given (mine modelopt)" in said
    assert "gpu: none: no nvidia-smi on the PATH" in said and "clocks: not locked: no GPU" in said
    assert (folder / "fixed.engine" / "engine.json").is_file() and (folder / "data.onnx").is_file()
    with tarfile.open(out / "results.tar.gz") as tar:
        names = tar.getnames()
    assert "table.md" in names and not [n for n in names if n.endswith((".onnx", ".engine"))]


def test_a_second_run_does_nothing_again_and_retry_repeats_what_failed(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("onnxruntime")
    out = alone / "out"
    folder = files(out)
    first = run(out, "tensorrt-rtx")
    monkeypatch.setattr(qdqgraph, "build", lambda *a, **k: pytest.fail("it builds again"))
    monkeypatch.setattr(qdqgraph, "fix", lambda *a, **k: pytest.fail("it repairs again"))
    assert run(out, "tensorrt-rtx") == first
    monkeypatch.undo()
    (folder / "modelopt.onnx").write_bytes((folder / "fixed.onnx").read_bytes())
    assert "no file given" not in run(out, "tensorrt-rtx", "--retry")


def test_trtexec_times_and_outputs_are_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("PATH", str(DATA), prepend=":")
    monkeypatch.setenv("REPLAY", "qat")
    out = tmp_path / "out"
    folder = files(out)
    from qdqgraph.model.runtime import run as run_model

    model = build(CHAIN)
    with np.load(folder / "check" / "0.npz") as sample:
        (y,) = run_model(model, [{"x": sample["x"]}], tmp_path)[0]
    recorded = tmp_path / "outputs.json"
    recorded.write_text(json.dumps([{"name": "y", "dimensions": "1x4x16x16", "values": np.ravel(y).tolist()}]))
    monkeypatch.setenv("REPLAY_OUTPUT", str(recorded))
    said = run(out, "trtexec")
    cells = next(line for line in said.splitlines() if line.startswith("| mine | exported |")).split(" | ")
    assert cells[2:4] == ["20", "8"] and cells[5].startswith("1.050 of 2 (") and cells[6] == "100%"
    assert cells[7] == "equal" and cells[9] == "6 (1) |"
    (result,) = folder.glob("exported.engine/result.json")
    assert json.loads(result.read_text())["built"] == "trtexec 8.6 --mode qdq"
    log = (folder / "fp16.engine" / "trtexec.log").read_text()
    assert "--fp16" in log and "--int8" not in log and "--iterations=200" in log


def test_the_package_tensorrt_times_and_runs_the_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package replays: its engines are the files, run by ONNX Runtime in memory at the GPU's addresses."""
    pytest.importorskip("onnxruntime")
    replayed_tensorrt.write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REPLAY_LAYERS", str(DATA / "qat.graph.json"))
    out = tmp_path / "out"
    folder = files(out)
    said = run(out, "tensorrt")
    rows = {line.split(" | ")[1]: line.split(" | ") for line in said.splitlines() if line.startswith("| mine |")}
    for name in ("fp16", "exported", "fixed", "data"):
        assert " of 200 (" in rows[name][5] and rows[name][7] == "equal", (name, rows[name], said)
    assert "outputs not compared" not in said
    with np.load(folder / "exported.engine" / "outputs.npz") as found:
        assert found["y"].shape == (1, 4, 16, 16) and found["y"].any()


DYNAMIC = """g (float16[N,4,16,16] x, int64[1] i) => (float16[N,4,16,16] y, int64[1] j) {
    one = Constant <value = int64[1] {1}> () y = Abs (x) j = Add (i, one) }"""


def test_outputs_have_the_types_and_shapes_of_the_engine() -> None:
    pytest.importorskip("onnxruntime")
    engine = replayed_tensorrt.engine(build(DYNAMIC), x=(1, 4, 16, 16))
    cuda = replayed_tensorrt.Cuda()
    feeds: dict[str, np.ndarray] = {"x": np.full((3, 4, 16, 16), -0.5, np.float32), "i": np.array([41], np.int64)}
    found = tensorrt_outputs.outputs(replayed_tensorrt, engine, cuda, feeds)
    assert found["y"].dtype == np.float16 and found["y"].shape == (3, 4, 16, 16) and (found["y"] == 0.5).all()
    assert found["j"].tolist() == [42] and not cuda.held


@pytest.mark.parametrize(
    ("refuses", "feeds", "error"),
    [
        ("", {"x": (1, 4, 16, 16)}, "no array for the input 'i'"),
        ("", {"x": (1, 4, 16, 16), "i": (2,)}, "the input 'i' has 8 bytes in the engine, 16 in the sample"),
        ("cudaMemcpy", {"x": (1, 4, 16, 16), "i": (1,)}, "error 2 for a copy of 2,048 bytes"),
        ("cudaDeviceSynchronize", {"x": (1, 4, 16, 16), "i": (1,)}, "error 2 after the run"),
        ("cudaMalloc", {"x": (1, 4, 16, 16), "i": (1,)}, "cannot allocate 2,048 bytes for 'x'"),
    ],
)
def test_what_fails_on_the_gpu_is_a_sentence_and_its_memory_is_freed(
    refuses: str, feeds: dict[str, tuple[int, ...]], error: str
) -> None:
    pytest.importorskip("onnxruntime")
    engine = replayed_tensorrt.engine(build(DYNAMIC), x=(1, 4, 16, 16))
    cuda = replayed_tensorrt.Cuda(refuses)
    arrays = {name: np.ones(dims, np.int64) for name, dims in feeds.items()}
    with pytest.raises((RuntimeError, MemoryError), match=error):
        tensorrt_outputs.outputs(replayed_tensorrt, engine, cuda, arrays)
    assert len(cuda.held) == (refuses == "cudaMalloc"), "only the block that was refused"


def test_outputs_far_from_onnx_runtime_have_a_low_sqnr() -> None:
    ones = np.ones(100)
    assert sqnr({"y": ones}, {"y": 1.1 * ones}) == pytest.approx(20.0)
    assert sqnr({"y": ones, "z": ones}, {"y": ones}) == math.inf
    with pytest.raises(UncheckedError, match="no output of the engine"):
        sqnr({"y": ones}, {"y": np.ones(99)})


def test_a_refused_file_is_a_reason_and_the_others_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(DATA), prepend=":")
    monkeypatch.setenv("REPLAY_LOG", "refused-10.log")
    monkeypatch.setenv("REPLAY_VERSION", "101600")
    out = tmp_path / "out"
    files(out)
    assert "no engine: trtexec 10.16 refuses exported.onnx" in run(out, "trtexec")


def test_clocks_are_locked_and_released_where_nvidia_smi_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\necho "$@" >> "$(dirname "$0")/said"\n'
        'case "$1" in --query*) echo "NVIDIA A10, 550.54, 23028, 1710, 6251";; *) echo "$ANSWER";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("ANSWER", "GPU clocks set to 1282")
    found = clocks.machine()
    assert found["gpu"] == "NVIDIA A10" and found["driver_version"] == "550.54"
    with clocks.locked(found) as said:
        assert said == "locked at 1282 MHz"
    assert (tmp_path / "said").read_text().splitlines()[1:] == ["--lock-gpu-clocks=1282,1282", "--reset-gpu-clocks"]
    monkeypatch.setenv("ANSWER", "The current user does not have permission to change clocks for GPU 0.")
    with clocks.locked(found) as said:
        assert said.startswith("not locked: The current user does not have permission")


@pytest.mark.parametrize(
    ("source", "name"),
    [("trtexec 8.6 --mode qdq", "trt-8.6"), ("TensorRT 10.9.0", "trt-10"), ("trtexec 11.1 --mode qdq", "trt-11"),
     ("TensorRT-RTX 1.7.1.116", "trt-rtx")],
)  # fmt: skip
def test_the_forecast_is_that_of_the_engines_generation(source: str, name: str) -> None:
    assert target(source) == name


def test_equal_and_unequal_outputs_and_shares_of_fp16() -> None:
    half = Result("trtexec 10.9", layers=5, runs=200, median_ms=2.0, spread_ms=(1.9, 2.2), sqnr_db=math.inf)
    fixed = Result(
        "trtexec 10.9", layers=4, runs=200, median_ms=1.0, spread_ms=(0.9, 1.2), sqnr_db=31.25, same=4, predicted=4
    )
    said = page({"net": {"fp16": half, "fixed": fixed}}, {"gpu": "A10"}, "locked at 1282 MHz")
    assert "| net | fixed | 4 | 0 | 0.0 | 1.000 of 200 (0.900 to 1.200) | 50% | 31.2 | 4 of 4 | 0 (0) |" in said
    assert "| net | fp16 | 5 | 0 | 0.0 | 2.000 of 200 (1.900 to 2.200) | 100% | equal | 0 of 0 | 0 (0) |" in said
    assert "- nothing" in said and "- nowhere" in said
