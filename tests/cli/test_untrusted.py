"""Folders and files of strangers: nothing in them runs, and nothing in them reaches the terminal as it is."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.cli.main import main
from qdqgraph.printable import UNSAFE
from tests.support.models import build
from tests.support.paths import ROOT

MODEL = "g (float[1,4,8,8] x, float[1,4,8,8] t) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) c = Concat <axis = 1> (a, t) v = t.conv8 (c, s2) }"
EVIL = "a\n::stop-commands::x\n  ::error::y\x1b[31m\x1b]8;;http://x\x07\x9b2J\u202e\u2028\u2066\x7f\r\x00 ##[error]z"
"""A name with all that a terminal, a log or a browser would act on."""


def renamed(path: Path) -> Path:
    """A model whose tensors and nodes have such names."""
    model = build(MODEL)
    for node in model.graph.node:
        node.name = f"{EVIL} {node.op_type} {node.output[0]}"
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = f"{name}{EVIL}" if name else ""
    for item in (*model.graph.initializer, *model.graph.input, *model.graph.output, *model.graph.value_info):
        item.name += EVIL
    onnx.save(model, path)
    return path


def safe(text: str, *, commands: bool = False) -> bool:
    """Whether a text has line breaks only, and none before a workflow command."""
    lines = text.split("\n")
    found = [line for line in lines if UNSAFE.search(line) or "##[" in line]
    begun = [] if commands else [line for line in lines if line.lstrip().startswith("::")]
    return not found and not begun


def process(folder: Path, *arguments: str, module: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a folder."""
    command = ["-m", "qdqgraph"] if module else ["-c", "from qdqgraph.cli import entry; entry()"]
    path = {} if module else {"PYTHONSAFEPATH": "1"}
    env = {**os.environ, "PYTHONPATH": str(ROOT), **path}
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["fix", "-o", "out.onnx", "--diff", "--no-numerics"],
        ["fix", "--dry-run"],
        ["engine", "forecast"],
        ["why", "QDQ101", "--at", "nothing"],
        ["strip", "-o", "out.onnx", "--nodes", EVIL],
        ["diff", "other.onnx"],
        ["error", "--data", "x.npz"],
        ["error", "--data", "x.npz", "--format", "csv"],
        ["error", "--data", "none.npz"],
        ["engine", "build", "--with", "tensorrt-rtx", "--shape", f"{EVIL}:1"],
        ["check", EVIL],
    ],
    ids=lambda a: " ".join(a)[:24].replace("\n", " "),
)
def test_names_are_escaped_in_every_text(tmp_path: Path, arguments: list[str]) -> None:
    renamed(tmp_path / "model.onnx")
    onnx.save(build(MODEL.replace("Relu", "Sigmoid")), tmp_path / "other.onnx")
    arrays = {f"{name}{EVIL}": np.ones((1, 4, 8, 8), np.float32) for name in "xt"}
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name.replace(chr(0), '')}.npy", content.getvalue())
    at = 2 if arguments[0] in ("engine", "why") else 1
    done = process(tmp_path, *(a.replace("\0", "") for a in (*arguments[:at], "model.onnx", *arguments[at:])))
    assert done.stdout + done.stderr and "Traceback" not in done.stderr
    assert safe(done.stdout) and safe(done.stderr)


def test_workflow_commands_are_only_ours(tmp_path: Path) -> None:
    renamed(tmp_path / "model.onnx")
    done = process(tmp_path, "check", "model.onnx", "--format", "github")
    assert safe(done.stdout, commands=True)
    lines = done.stdout.splitlines()
    assert len(lines) > 1 and all(re.match("::(error|warning|notice) file=model.onnx,", line) for line in lines)


def test_json_has_the_names_as_they_are(tmp_path: Path) -> None:
    model = onnx.load(renamed(tmp_path / "model.onnx"))
    names = {name for node in model.graph.node for name in node.output}
    done = process(tmp_path, "check", "model.onnx", "--json")
    assert safe(done.stdout)
    (file,) = json.loads(done.stdout)["files"]
    places = [finding["place"] for finding in file["findings"]]
    assert places and all(EVIL in place for place in places) and names & set(places)


def test_drawings_have_escaped_names(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    renamed(tmp_path / "model.onnx")
    for name in ("model.svg", "model.dot"):
        assert process(tmp_path, "draw", "model.onnx", "-o", name).returncode == 0
        assert not UNSAFE.search((tmp_path / name).read_text(encoding="utf-8").replace("\n", ""))
    ElementTree.parse(tmp_path / "model.svg")  # XML has no control characters


MODULES = ("json", "onnx", "numpy", "rich", "tensorrt_rtx", "msgspec", "tempfile", "argparse", "psutil", "qdqgraph_x")


def hostile(folder: Path) -> Path:
    """A folder with modules that leave a file when they are imported."""
    onnx.save(build(MODEL), folder / "model.onnx")
    for name in MODULES:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'ran')!r}, 'a').write(__name__ + ' ')\nraise SystemExit(9)\n"
        )
    return folder


@pytest.mark.parametrize("module", [False, True])
def test_no_module_of_the_current_folder_is_imported(tmp_path: Path, module: bool) -> None:
    folder = hostile(tmp_path)
    done = process(folder, "check", "model.onnx", "--no-config", module=module)
    assert (done.returncode, (folder / "ran").exists()) == (1, False), done.stderr


def test_builds_import_nothing_from_the_current_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder = hostile(tmp_path)
    for module in (False, True):
        done = process(folder, "engine", "build", "model.onnx", "--with", "tensorrt-rtx", module=module)
        assert done.returncode == 0 and not (folder / "ran").exists(), done.stderr
    done = process(folder, "fix", "model.onnx", "-o", "out.onnx", "--verify", "--no-numerics", "--no-config")
    assert done.returncode == 0 and not (folder / "ran").exists(), done.stderr


@pytest.mark.parametrize(
    ("option", "values"),
    [
        (["engine", "build", "m", "--with", "trtexec", "--time-limit"], ["nan", "inf", "-1", "0", "x"]),
        (["engine", "build", "m", "--with", "trtexec", "--memory-limit"], ["-1", "0", "1.5", "9" * 30, "٣"]),
        (["fix", "m", "-o", "o", "--percentile"], ["nan", "inf", "0", "101", "-1"]),
        (["fix", "m", "-o", "o", "--samples"], ["-1", "0", "1.5", "nan"]),
        (["fix", "m", "-o", "o", "--max-bits-lost"], ["nan", "inf", "-1"]),
        (["strip", "m", "-o", "o", "--top"], ["-1", "0", "nan"]),
        (["strip", "m", "-o", "o", "--min-gain"], ["nan", "inf", "x"]),
        (["fix", "m", "-o", "o", "--data", "d", "--memory"], ["nan", "inf", "-1", "0", "1e30", "x"]),
        (["torch", "finetune", "--seed"], ["-1", "nan"]),
        (["torch", "quantize", "--opset"], ["-1", "nan"]),
    ],
    ids=lambda a: a[-1],
)
def test_numbers_out_of_range_are_refused(
    option: list[str], values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        try:
            code = main([*option[:-1], f"{option[-1]}={value}"])
        except SystemExit as error:
            code = int(str(error.code))
        said = capsys.readouterr().err
        assert code == 2 and " is not a" in said, (value, said)


def test_installed_rule_packs_can_be_left_out(tmp_path: Path) -> None:
    info, pack = tmp_path / "pack-1.dist-info", tmp_path / "a_pack"
    info.mkdir()
    pack.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[qdqgraph.rules]\npack = a_pack\n")
    (pack / "__init__.py").write_text("")
    (pack / "rule.py").write_text("raise RuntimeError('the pack ran')\n")
    onnx.save(build(MODEL), tmp_path / "model.onnx")
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    for more, code in (([], 2), (["--no-packs"], 1)):
        for command in (["check", "model.onnx"], ["rules", "list"], ["fix", "model.onnx", "--dry-run"]):
            done = subprocess.run(
                [sys.executable, "-m", "qdqgraph", *command, "--no-config", *more],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            expected = code if not more else {"check": 1}.get(command[0], 0)
            assert (done.returncode, "the pack ran" in done.stderr) == (expected, not more), done.stderr
