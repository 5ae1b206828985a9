"""Hostile files and folders: each row of docs/measurements/hostile.md ends as the page says, and changes no file."""

from __future__ import annotations

import ast
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qdqgraph.cli.main import main
from tests.support.models import build
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "measurements" / "hostile.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| `(.+?)` \| (\d) \| `(.+?)` \|$", PAGE, re.MULTILINE)
ELSEWHERE = re.findall(r"^\| .+ \| `(tests/.+?)::(.+?)` \|$", PAGE, re.MULTILINE)
TEXT = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float s = {0.1}, int8 z = {0},
    int8[4,1,1,1] w = {64, -32, 16, 8}, float[4] sw = {0.01, 0.02, 0.03, 0.04}, int8[4] zw = {0, 0, 0, 0}> {
    q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  k = DequantizeLinear <axis = 0> (w, sw, zw)
    y = Conv <group = 4> (d, k) }"""
DEEP = 200_000
Change = Callable[[onnx.ModelProto, onnx.TensorProto], object]


def model() -> onnx.ModelProto:
    made = build(TEXT)
    for tensor in made.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return made


def changed(change: Change) -> Callable[[], None]:
    """Writes m.onnx with a change of the model or of its weights."""

    def write() -> None:
        made = model()
        change(made, next(t for t in made.graph.initializer if t.name == "w"))
        Path("m.onnx").write_bytes(made.SerializeToString())

    return write


def outside(prepare: Callable[[], object] = lambda: None, **entries: str) -> Callable[[], None]:
    """Writes m.onnx whose weights are in another file, as these entries say."""

    def move(made: onnx.ModelProto, weights: onnx.TensorProto) -> None:
        Path("w.data").write_bytes(weights.raw_data)
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in ({"location": "w.data"} | entries).items():
            weights.external_data.add(key=key, value=value)
        prepare()

    return changed(move)


def as_constant(made: onnx.ModelProto, weights: onnx.TensorProto) -> None:
    weights.raw_data = weights.raw_data[:-2]
    made.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weights))
    made.graph.initializer.remove(weights)


def axes(made: onnx.ModelProto, weights: onnx.TensorProto) -> None:
    del made.graph.node[2].attribute[:]
    made.graph.node[2].attribute.append(helper.make_attribute("axis", [0, 1]))


def three_scales(made: onnx.ModelProto, weights: onnx.TensorProto) -> None:
    for tensor in made.graph.initializer:
        if tensor.name in ("sw", "zw"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:3], tensor.name))


def circle(made: onnx.ModelProto, weights: onnx.TensorProto) -> None:
    made.graph.node[0].input[0] = "y"


def recursive(made: onnx.ModelProto, weights: onnx.TensorProto) -> None:
    inner = helper.make_node("F", ["a"], ["b"], domain="own")
    made.functions.append(helper.make_function("own", "F", ["a"], ["b"], [inner], list(made.opset_import)))
    made.graph.node.append(helper.make_node("F", ["x"], ["f"], domain="own"))
    made.opset_import.add(domain="own", version=1)


def plain() -> None:
    changed(lambda made, weights: None)()


def broken_rule() -> None:
    """Writes a rule whose example is no ONNX text."""
    main(["rules", "new", "broken-example", "--code", "MY101"])
    rule = Path("broken_example.toml")
    pattern, mark, examples = rule.read_text().partition("[[example]]")
    rule.write_text(pattern + mark + examples.replace("y = Conv", "y = =", 1))


def not_utf8() -> None:
    Path("m.onnx").write_bytes(model().SerializeToString().replace(b"Conv", b"C\xff\xfev"))


def text(name: str, content: str | bytes) -> Callable[[], None]:
    """Writes m.onnx and another file."""

    def write() -> None:
        plain()
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def archive(damage: Callable[[bytearray], object]) -> Callable[[], None]:
    """Writes m.onnx, and x.npz with other bytes."""

    def write() -> None:
        plain()
        content = io.BytesIO()
        np.savez(content, x=np.ones((1, 4, 8, 8), np.float32))
        data = bytearray(content.getvalue())
        damage(data)
        Path("x.npz").write_bytes(data)

    return write


def encrypted(data: bytearray) -> None:
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1


def array(name: str, value: np.ndarray) -> Callable[[], None]:
    """Writes m.onnx, and an array."""

    def write() -> None:
        plain()
        np.save(name, value, allow_pickle=True)

    return write


def header() -> None:
    plain()
    words = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }\n"
    with zipfile.ZipFile("x.npz", "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words)


def linked(name: str, target: str) -> Callable[[], None]:
    def write() -> None:
        plain()
        Path(name).symlink_to(target)

    return write


def deleted() -> None:
    plain()
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()


def pipe_of_rules() -> None:
    plain()
    Path("rules").mkdir()
    os.mkfifo("rules/a.toml")


def pipe() -> None:
    Path("w.data").unlink()
    os.mkfifo("w.data")


def elsewhere() -> None:
    Path("w.data").unlink()
    Path("w.data").symlink_to("/etc/hostname")


MADE: dict[str, Callable[[], None]] = {
    "an operator that is not UTF-8": not_utf8,
    "a constant with fewer bytes than its shape": changed(lambda made, w: setattr(w, "raw_data", b"a")),
    "a Constant that was cut": changed(as_constant),
    "a dimension of 2³¹": changed(lambda made, w: w.dims.__setitem__(0, 2**31)),
    "a negative dimension": changed(lambda made, w: w.dims.__setitem__(0, -4)),
    "an axis that is a list": changed(axes),
    "scales that fit no axis": changed(three_scales),
    "scales that fit no axis, as floats": changed(three_scales),
    "a graph with a circle": changed(circle),
    "a function that calls itself": changed(recursive),
    'an offset "abc"': outside(offset="abc"),
    "a negative offset": outside(offset="-4"),
    "a negative length": outside(length="-4"),
    "a length beyond the file": outside(length="5"),
    "a location above the folder": outside(location="../w.data"),
    "an absolute location": outside(location="/etc/hostname"),
    "a location of 5,000 characters": outside(location="x" * 5000),
    "external data that are a link to another folder": outside(elsewhere),
    "the same, with a builder": outside(elsewhere),
    "external data that are a pipe": outside(pipe),
    "external data that are missing": outside(lambda: Path("w.data").unlink()),
    "the model's own external data as output": outside(),
    "an .npz file with other bytes": archive(lambda data: data.__setitem__(300, data[300] ^ 255)),
    "an encrypted .npz file": archive(encrypted),
    "an array of 400 GB in a small .npz file": header,
    "an array whose header is cut": text("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': ('<f4',"),
    "an empty .npz file": text("x.npz", b"PK\x05\x06" + bytes(18)),
    "a scalar": array("x.npy", np.array(3, np.float32)),
    "texts": array("x.npy", np.array(["a", "b"])),
    "a pickle": array("x.npy", np.array([{}], dtype=object)),
    "a plan of 200,000 brackets": text("p.json", "[" * DEEP),
    "an engine of 200,000 brackets": text("e.json", '{"a":' * DEEP),
    "a table of 200,000 brackets": text("t.json", "[" * DEEP),
    "settings of 200,000 brackets": text("s.toml", "[tool.qdqgraph]\nselect = " + "[" * DEEP),
    "an integer of 6,000 digits": text("s.toml", "[tool.qdqgraph]\nmax-bits-lost = " + "9" * 6000),
    "settings that are not UTF-8": text("s.toml", b"[tool.qdqgraph]\n# \xff\xfe"),
    "a rule with a broken example": broken_rule,
    "its pages": broken_rule,
    "a pipe among the rules": pipe_of_rules,
    "a limit that is not a number": plain,
    "a device without an end": plain,
    "a model that is a loop of links": linked("l.onnx", "l.onnx"),
    "a loop of links as output": linked("l.onnx", "l.onnx"),
    "a full device as output": plain,
    "a current folder that was deleted": deleted,
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The current folder, also if it is deleted."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def contents(folder: Path) -> dict[str, object]:
    return {str(p): p.read_bytes() if p.is_file() else p.lstat().st_mode for p in sorted(folder.rglob("*"))}


def ended(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def test_the_page_and_the_files_are_the_same() -> None:
    assert [what for what, *_ in ROWS] == list(MADE)


@pytest.mark.parametrize(("what", "command", "code", "said"), ROWS, ids=[what for what, *_ in ROWS])
def test_each_ends_as_the_page_says(
    what: str, command: str, code: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MADE[what]()
    capsys.readouterr()
    before = contents(folder)
    assert ended(shlex.split(command)[1:]) == int(code)
    pattern = ".*?".join(map(re.escape, said.split("…")))
    assert re.fullmatch(f"qdqgraph: {pattern}\n", capsys.readouterr().err, re.DOTALL)
    assert contents(folder) == before


def test_what_is_tested_elsewhere_is() -> None:
    assert len(ELSEWHERE) > 10
    for file, name in ELSEWHERE:
        functions = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        assert name in {each.name for each in functions if isinstance(each, ast.FunctionDef)}, f"{file}::{name}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "m.onnx", "--no-config", "--rules", "locked"], "locked: Permission denied"),
        (["fix", "m.onnx", "--dry-run", "--no-config", "--data", "locked"], "locked: Permission denied"),
        (["check", "locked/m.onnx", "--no-config"], "locked/m.onnx: cannot be read: Permission denied"),
        (
            ["fix", "m.onnx", "--no-config", "-o", "locked/o.onnx"],
            "locked/o.onnx: cannot be written: Permission denied",
        ),
    ],
)
def test_a_folder_that_cannot_be_searched_is_named(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as place:  # another user must reach it
        monkeypatch.chdir(place)
        Path(place).chmod(0o777)
        plain()
        Path("locked").mkdir()
        main([*words, "--force"] if "-o" in words else words)  # loads what another user cannot
        shutil.rmtree("locked")
        Path("locked").mkdir(mode=0)
        capsys.readouterr()
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            assert main(words) == 2
        finally:
            os.seteuid(user)
        assert capsys.readouterr().err == f"qdqgraph: {said}\n"
        monkeypatch.chdir("/")


def test_rules_that_are_a_loop_of_links_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linked("l", "l")()
    assert main(["check", "m.onnx", "--no-config", "--rules", "l"]) == 2
    said = capsys.readouterr().err  # resolve() raises no error since Python 3.13
    assert said in (
        f"qdqgraph: {folder.resolve()}/l: a loop of symbolic links\n",
        "qdqgraph: there is no rule file or folder l\n",
    )


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("check é中.onnx -v --no-config", 0, ""),
        ("--version >&-", 2, "the output cannot be printed: Bad file descriptor"),
        ("--version >/dev/full", 2, "the output cannot be printed: No space left on device"),
    ],
)
def test_stdout_in_ascii_closed_and_full(folder: Path, shell: str, code: int, said: str) -> None:
    made = model()
    for node in made.graph.node:
        node.name = f"é中{node.op_type}"
    Path("é中.onnx").write_bytes(made.SerializeToString())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    command = f"{shlex.quote(sys.executable)} -m qdqgraph {shell}"
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode("ascii")) == (code, f"qdqgraph: {said}\n" if said else "")
    assert ("\\xe9\\u4e2d" in done.stdout.decode("ascii")) is not bool(said)


def test_names_of_files_in_ascii(folder: Path) -> None:
    plain()
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "qdqgraph", "fix", "m.onnx", "-o", "ö.onnx", "--no-numerics", "--no-config"]
    done = subprocess.run(
        [os.fsencode(word) for word in command], env={**os.environ, **bare}, capture_output=True, check=False
    )
    said = "fix: names of files have the encoding ascii here, which lacks '\\xf6': set PYTHONUTF8=1"
    assert (done.returncode, done.stderr.decode()) == (2, f"qdqgraph: {said}\n")


def test_a_result_that_cannot_be_printed_is_written_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain()
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["fix", "m.onnx", "-o", "o.onnx", "--no-numerics", "--no-config"]) == 2
    monkeypatch.undo()
    said = "the output cannot be printed: No space left on device; written so far: o.onnx"
    assert capsys.readouterr().err == f"qdqgraph: {said}\n" and Path("o.onnx").is_file()
