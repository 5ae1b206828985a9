"""Engines built by a real TensorRT without a GPU, and by programs that hang, swell and crash."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import onnx
import pytest
from rich.console import Console

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.engines.builders import limits
from qdqgraph.engines.builders.how import Build, statement
from qdqgraph.engines.builders.limits import Limits
from qdqgraph.engines.builders.prove import Proof
from qdqgraph.engines.builders.tensorrt import build
from qdqgraph.engines.compare.diff import diff
from qdqgraph.engines.compare.storage import Storage
from qdqgraph.engines.layers import Engine
from qdqgraph.engines.read import listing
from qdqgraph.engines.read.names import is_quantizer
from qdqgraph.engines.read.saved import open_engine
from qdqgraph.errors import EngineError, RepairError
from qdqgraph.graph.graph import Graph
from qdqgraph.report.engine import show_proof
from tests.support.engines import CHAIN, illegal, written
from tests.support.models import build as model_of
from tests.support.unquantize import Illegal

RESIDUAL = """g (float[1,4,16,16] x) => (float[1,4,16,16] y) {
    a = t.conv4 (x, s1)
    r = Relu (a)
    b = t.conv4 (r, s2)
    SKIP
    c = Add (b, k)
    y = t.conv4 (c, s4)
}"""


def stored(text: str, folder: Path) -> Storage:
    model = model_of(text)
    return Storage.of(build(Graph(model), written(model, folder), "tensorrt-rtx", Build()))


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx")


@pytest.mark.usefixtures("rtx")
def test_a_model_builds_without_a_gpu_and_its_kernels_name_their_nodes(tmp_path: Path) -> None:
    model = model_of(CHAIN)
    engine = build(Graph(model), written(model, tmp_path), "tensorrt-rtx", Build())
    named = {n for layer in engine.layers for n in (*layer.nodes, *layer.quantizers)}
    assert named and engine.bindings == () and engine.source.startswith("TensorRT-RTX 1.")
    assert any("proven on TensorRT-RTX" in note for note in engine.notes)
    found = Storage.of(engine)
    assert (found.convolutions, found.int8_convolutions, found.pools) == (2, 2, 1)


@pytest.mark.usefixtures("rtx")
def test_a_skip_in_float_is_stored_twice_and_one_with_the_convolutions_scale_once(tmp_path: Path) -> None:
    bare = stored(RESIDUAL.replace("SKIP", "k = Identity (r)"), tmp_path)
    paired = stored(RESIDUAL.replace("SKIP", "k = t.pair (r, s2)"), tmp_path)
    skip = 4 * 16 * 16
    assert bare.float_bytes - paired.float_bytes == 4 * skip
    assert bare.boundary_bytes - paired.boundary_bytes == 4 * skip


@pytest.mark.usefixtures("rtx")
def test_open_dimensions_get_a_shape_and_the_note_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(CHAIN)
    for dims in (model.graph.input[0].type.tensor_type.shape, model.graph.output[0].type.tensor_type.shape):
        dims.dim[0].dim_param = "n"
        dims.dim[2].dim_param, dims.dim[3].dim_param = "h", "w"
    del model.graph.value_info[:]
    file = written(model, tmp_path)
    assert main(["engine", "build", str(file), "--with", "tensorrt-rtx"]) == 0
    assert "'x' was built for 1x4x320x320" in capsys.readouterr().out
    assert main(["engine", "build", str(file), "--with", "tensorrt-rtx", "--shape", "x:2x4x32x32"]) == 0
    assert "'x' was built for 2x4x32x32" in capsys.readouterr().out
    assert main(["engine", "build", str(file), "--with", "tensorrt-rtx", "--shape", "2x4"]) == 2
    assert "NAME:1x3x224x224" in capsys.readouterr().err


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("model", "node", "code"),
    [
        (illegal(3, 0.1), "in_q", "QDQ401"),
        (illegal(0, 0.0), "in_q", "QDQ403"),
        (illegal(0, 0.1, "Strange"), "last", "no rule of qdqgraph covers this error"),
    ],
)
def test_a_refusal_names_the_node_the_rule_and_what_fix_would_do(
    model: onnx.ModelProto, node: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "build", str(written(model, tmp_path)), "--with", "tensorrt-rtx"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("qdqgraph: TensorRT-RTX 1.") and "refuses model.onnx" in first
    assert second.strip().startswith(f"{node}: {code}")
    assert ("fix would:" in second) or ("fix reports it" in second) or "no rule" in code


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("mode", ["best", "fp16"])
def test_a_mode_that_the_library_has_not_is_refused_with_the_reason(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(model_of(CHAIN), tmp_path)
    assert main(["engine", "build", str(file), "--with", "tensorrt-rtx", "--mode", mode]) == 2
    assert f"--mode {mode}" in capsys.readouterr().err


@pytest.mark.usefixtures("rtx")
def test_what_was_exported_is_kept_and_an_engine_is_saved(tmp_path: Path) -> None:
    file, keep, out = written(model_of(CHAIN), tmp_path), tmp_path / "kept", tmp_path / "engine.json"
    assert main(["engine", "build", str(file), "--with", "tensorrt-rtx", "--keep", str(keep), "-o", str(out)]) == 0
    assert {p.name for p in keep.iterdir()} == {"job.json", "result.json", "layers.txt", "build.log"}
    assert open_engine(out).layers == listing.layers((keep / "layers.txt").read_text())


def test_a_layer_list_in_another_form_is_refused() -> None:
    with pytest.raises(EngineError, match="no list of layers"):
        listing.layers("nothing of the kind")
    with pytest.raises(EngineError, match="unknown form"):
        listing.layers("Layers:\nName: a, LayerType: b, Something: new")


def test_q_and_dq_are_told_by_the_operator_in_their_names() -> None:
    assert all(
        map(
            is_quantizer,
            (
                "QuantizeLinear_7",
                "/a/_input_quantizer/DequantizeLinear",
                "x_quantize_scale_node",
                "QuantLinearNode__838",
            ),
        )
    )
    assert not any(map(is_quantizer, ("/conv/Conv", "quant_conv", "ConvInteger")))


@pytest.mark.usefixtures("rtx")
def test_fix_verify_builds_before_and_after_and_claims_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = written(model_of(RESIDUAL.replace("SKIP", "k = Identity (r)")), tmp_path), tmp_path / "fixed.onnx"
    assert main(["fix", str(file), "-o", str(out), "--verify", "--no-numerics"]) == 0
    said = capsys.readouterr().out
    assert "TensorRT-RTX builds both models: after is not worse\n  forecast for a GPU, proven on TensorRT-RTX\n" in said
    assert "forecast for trt-10, before: " in said and "after (TensorRT-RTX 1." in said
    assert main(["fix", str(file), "--dry-run", "--verify", "--no-numerics", "--json"]) == 0
    engines = json.loads(capsys.readouterr().out)["engines"]
    assert engines["claim"] == "forecast for a GPU, proven on TensorRT-RTX"
    assert engines["forecast"]["b"]["reformats"] <= engines["forecast"]["a"]["reformats"]


@pytest.mark.usefixtures("rtx")
def test_fix_verify_builds_a_model_whose_external_data_are_in_another_folder(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    model = model_of(RESIDUAL.replace("SKIP", "k = Identity (r)"))
    onnx.save(model, data / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    (data / "m.onnx").rename(file := tmp_path / "m.onnx")
    result = qdqgraph.fix(file, folder=data, verify=True)
    assert result.engines is not None and result.engines.real is not None and not result.engines.worse


@pytest.mark.usefixtures("rtx")
def test_fix_verify_tells_why_the_original_cannot_be_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(illegal(3, 0.1), file := tmp_path / "m.onnx")
    assert main(["fix", str(file), "--dry-run", "--verify", "--no-numerics"]) == 0
    said = capsys.readouterr().out
    assert "TensorRT-RTX builds the repaired model; TensorRT-RTX 1." in said and "refuses m.onnx: " in said


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(text))


@pytest.mark.parametrize(
    ("text", "limit", "sentence"),
    [
        (
            "import time; print('busy', flush=True); time.sleep(60)",
            Limits(1, 4096),
            "terminated after 1 s.*last output: busy",
        ),
        ("x = bytearray(400 << 20); import time; time.sleep(60)", Limits(60, 200), "limit of --memory-limit is 200"),
        (
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(400 << 20); input()'], stdin=-1)",
            Limits(60, 200),
            "limit of --memory-limit is 200",
        ),
        ("import os; print('oh', flush=True); os.abort()", Limits(60, 4096), r"crashed \(SIGABRT\); its last output"),
        ("import ctypes; ctypes.string_at(0)", Limits(60, 4096), r"crashed \(SIGSEGV\)"),
    ],
)
def test_a_program_that_hangs_swells_or_crashes_is_a_message(
    text: str, limit: Limits, sentence: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(EngineError, match=f"builder .*{sentence}"):
        limits.run(program(text), "builder", tmp_path / "log", limit)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("apart", [False, True], ids=["in its process group", "in a session of its own"])
def test_what_a_program_started_ends_with_it(apart: bool, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    text = f"""
        import subprocess, sys, time
        inner = "import time, pathlib; time.sleep(3); pathlib.Path({str(alive)!r}).touch()"
        subprocess.Popen([sys.executable, '-c', inner], start_new_session={apart})
        time.sleep(60)"""
    with pytest.raises(EngineError, match="terminated after"):
        limits.run(program(text), "builder", tmp_path / "log", Limits(1, 4096))
    time.sleep(3)
    assert not alive.exists()


def test_a_library_that_crashes_on_import_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tensorrt.py").write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = written(model_of(CHAIN), tmp_path)
    assert main(["engine", "build", str(file), "--with", "tensorrt"]) == 2
    assert "tensorrt crashed (SIGABRT)" in capsys.readouterr().err


def test_a_library_that_is_missing_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = written(model_of(CHAIN), tmp_path)
    assert main(["engine", "build", str(file), "--with", "tensorrt-rtx"]) == 2
    assert "pip install 'tensorrt-rtx-cu12" in capsys.readouterr().err


def storage(int8: int, stored: int, floats: int, products: int = 0, reads: int = 1000) -> Storage:
    """A storage in which each matrix product in INT8 reads 100 bytes of INT8 and writes 10 of FP32.

    All layers together read `reads` bytes of FP32, and nothing else.
    """
    around = Counter({"INT8": 100 * products, "FP32": 10 * products})
    boundary = Counter({"INT8": stored - floats, "FP32": floats})
    return Storage(9, 5, int8, products, 0, 0, boundary, around, 10**6, boundary + Counter({"FP32": reads}))


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ((4, 1000, 200, 1), ""),
        ((5, 900, 100, 1), ""),
        ((3, 900, 100, 1), "3 convolutions read INT8 instead of 4"),
        ((4, 1001, 100, 1, 1200), "1,001 bytes are stored between convolution blocks instead of 1,000"),
        ((4, 1001, 100, 1, 900), ""),
        ((4, 1001, 201, 1, 900), ""),
        ((4, 1000, 201, 1), "201 bytes are stored between them as float instead of 200"),
        ((4, 1110, 210, 2), ""),
        ((4, 1111, 210, 2), "1,111 bytes are stored between convolution blocks instead of 1,000"),
        (
            (4, 1111, 211, 1),
            "1,111 bytes are stored between convolution blocks instead of 1,000, "
            "211 bytes are stored between them as float instead of 200",
        ),
    ],
)
def test_a_build_is_worse_by_what_it_stores_between_blocks_and_by_its_int8_convolutions(
    after: tuple[int, ...], reason: str
) -> None:
    engine = Engine("m", "forecast for trt-10", ())
    proof = Proof(diff(engine, engine), diff(engine, engine), storage(4, 1000, 200, 1), storage(*after))
    assert proof.worse == reason and proof.verdict == (f"after is worse: {reason}" if reason else "after is not worse")
    assert replace(proof, before=None, real=None).worse == ""


@pytest.mark.usefixtures("rtx")
def test_fix_verify_writes_nothing_whose_engine_is_worse_unless_that_is_allowed(tmp_path: Path) -> None:
    file, out, plan = written(model_of(CHAIN), tmp_path), tmp_path / "fixed.onnx", tmp_path / "plan.json"
    with pytest.raises(RepairError) as error:
        qdqgraph.fix(file, [Illegal()], verify=True, output=out, plan=plan)
    assert not out.exists() and not plan.exists()
    why = "TensorRT-RTX builds a worse engine from the repaired model: 0 convolutions read INT8 instead of 2, "
    assert str(error.value).startswith(why)
    assert str(error.value).endswith("; the result was not written: use --allow-worse to write it")
    result = qdqgraph.fix(file, [Illegal()], verify=True, allow_worse=True, output=out)
    assert out.exists() and result.engines is not None
    console = Console(file=StringIO(), width=200)
    show_proof(console, result.engines)
    assert isinstance(console.file, StringIO)
    first = console.file.getvalue().splitlines()[0]
    assert first.startswith("TensorRT-RTX builds both models: after is worse: 0 convolutions read INT8 instead of 2, ")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            "Invalid Node - b\nITensor::getDimensions: Error Code 4: API Usage Error (b: input has type Int32 but must "
            "have type FP8, FP4, Int4, Int8, or UInt8. In checkType at /_src/optimizer/common/nodeBase.cpp:456) "
            "[checkMacros.cpp::catchCudaError::212] Error Code 1: Cuda Runtime (In catchCudaError at /_src/a.cpp:1)",
            "b: input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8",
        ),
        (
            "Assertion failed: shiftIsAllZeros(zeroPoint): TensorRT only supports symmetric quantization (zero).",
            "Assertion failed: shiftIsAllZeros(zeroPoint): TensorRT only supports symmetric quantization (zero).",
        ),
    ],
)
def test_an_error_of_tensorrt_is_its_statement_without_its_code(raw: str, said: str) -> None:
    assert statement(raw) == said
