"""The process: full disks, Ctrl-C, what a pipe gets."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import MANY, main
from qdqgraph.model.wellformed import UNREAD
from tests.support.commands import program, saved


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("command", ["explain QDQ203", "rules list"])
def test_a_full_disk_gets_one_sentence(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(program(*command.split()), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.stderr == "qdqgraph: the output cannot be printed: No space left on device\n" and run.returncode == 2


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    branches = "".join(f" a{i} = Relu (x) y{i} = t.conv4 (a{i}, s1) v{i} = t.conv4 (a{i}, s2)" for i in range(400))
    model = saved(tmp_path, f"g (float[1,4,8,8] x) => (float[1,4,8,8] y0) {{{branches} }}")
    out = tmp_path / "out" / "fixed.onnx"
    out.parent.mkdir()
    with subprocess.Popen(
        program("fix", str(model), "-o", str(out)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as run:
        time.sleep(1.0)
        os.kill(run.pid, signal.SIGINT)
        _, error = run.communicate(timeout=30)
    if run.returncode == 0:
        pytest.skip("the repair was faster than the signal")
    assert run.returncode in (130, -signal.SIGINT)
    assert list(out.parent.iterdir()) == []
    assert b"Traceback" not in error or b"KeyboardInterrupt" in error


def test_output_in_a_pipe_has_no_escape_codes_and_whole_names(model: Path) -> None:
    run = subprocess.run(program("check", str(model)), capture_output=True, text=True, check=False)
    assert "\x1b" not in run.stdout and run.stderr == ""
    first, *lines, last = run.stdout.splitlines()
    assert first.startswith(f"{model}: ") and max(map(len, lines)) <= 80, "the command of the last line is not broken"
    assert last.startswith(f"1 finding, 1 repairable: qdqgraph fix {model} ")


@pytest.mark.skipif(bool(UNREAD), reason="this onnx does not read these types; such models are refused")
@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN"])
def test_stdout_is_json_alone_for_types_that_numpy_lacks(kind: str, tmp_path: Path) -> None:
    """onnx-graphsurgeon would print a warning for each such type to stdout."""
    wide = kind == "BFLOAT16"
    real, integer = ("bfloat16", "int8") if wide else ("float", "float8e4m3fn")
    text = f"""<ir_version: 10, opset_import: ["" : 22]> g ({real}[1,4] x) => ({real}[1,4] y) {{
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Relu (d) }}"""
    made = onnx.parser.parse_model(text)
    types = {"s": real, "z": integer}
    for name, value in (("s", 0.5), ("z", 0.0)):
        of_type = getattr(onnx.TensorProto, {"float": "FLOAT"}.get(types[name], types[name].upper()))
        made.graph.initializer.append(onnx.helper.make_tensor(name, of_type, [], [value]))
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(made, path)
    for words in (("check", "--format", "json"), ("fix", "--json", "-o", str(out))):
        run = subprocess.run(program(words[0], str(path), *words[1:]), capture_output=True, text=True, check=False)
        assert json.loads(run.stdout)["schema"], run.stdout


def test_cycles_are_looked_for_often_only_where_many_graphs_are_made(model: Path) -> None:
    found, before = [], gc.get_threshold()
    try:
        for given in ([model], [model, model]):
            main(["check", *map(str, given), "--no-rehearsal"])
            found.append(gc.get_threshold()[0])
    finally:
        gc.set_threshold(*before)
    assert found == [5 * MANY, MANY]
