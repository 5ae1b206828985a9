"""Outputs: what may be replaced, what is refused, and what happens to external data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.errors import ModelError
from qdqgraph.model.writing.texts import write_text
from tests.support.models import build
from tests.support.writes import MODEL, files, with_data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a/model.onnx with a/w.data, and b/precious.onnx with b/w.data."""
    for name, value in (("a/model.onnx", 1.0), ("b/precious.onnx", 2.0)):
        (tmp_path / name).parent.mkdir()
        with_data(tmp_path / name, "w.data", value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(path: str) -> float:
    found = {t.name: t for t in onnx.load(path).graph.initializer}
    return float(numpy_helper.to_array(found["weights"]).max())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    before = files(Path())
    assert main(["fix", "a/model.onnx", "--no-numerics", "--no-config", *arguments]) == 2
    assert files(Path()) == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_weights_of_another_model_are_never_replaced(folder: Path) -> None:
    old = files(Path("b"))
    result = qdqgraph.fix("a/model.onnx", output="b/fixed.onnx")
    assert weights("b/fixed.onnx") == 1 and weights("b/precious.onnx") == 2
    assert {name: files(Path("b"))[name] for name in old} == old
    assert onnx.load("b/fixed.onnx", load_external_data=False) == result.model
    again = files(Path("b"))
    qdqgraph.fix("a/model.onnx", output="b/fixed.onnx", force=True)
    assert files(Path("b")) == again


def test_the_api_overwrites_only_when_asked(folder: Path) -> None:
    before, output = files(Path()), "b/precious.onnx"
    plan = qdqgraph.fix("a/model.onnx").plan
    calls: list[Callable[[], object]] = [
        lambda: qdqgraph.fix("a/model.onnx", output=output),
        lambda: qdqgraph.strip("a/model.onnx", ("*",), output=output),
        lambda: qdqgraph.to_fp16("a/model.onnx", output=output),
        lambda: qdqgraph.apply(plan, "a/model.onnx", output=output),
        lambda: qdqgraph.undo(plan, "a/model.onnx", output=output),
    ]
    for call in calls:
        with pytest.raises(ModelError, match="exists; use --force"):
            call()
    assert files(Path()) == before


def test_data_that_only_the_replaced_model_used_are_removed(folder: Path) -> None:
    with_data(Path("b/fixed.onnx"), "old.data", 3.0)
    with_data(Path("b/other.onnx"), "shared.data", 4.0)
    with_data(Path("b/second.onnx"), "shared.data", 4.0)
    qdqgraph.fix("a/model.onnx", output="b/fixed.onnx", force=True)
    qdqgraph.fix("a/model.onnx", output="b/other.onnx", force=True)
    assert not Path("b/old.data").exists()
    assert weights("b/second.onnx") == 4


def test_a_plan_undoes_a_model_whose_data_have_a_new_name(folder: Path) -> None:
    original = Path("a/model.onnx").read_bytes()
    qdqgraph.fix("a/model.onnx", output="b/fixed.onnx", plan="b/plan.json")
    with pytest.raises(ModelError, match="exists and differs"):  # w.data of precious.onnx
        qdqgraph.undo("b/plan.json", "b/fixed.onnx", output="b/back.onnx")
    Path("c").mkdir()
    qdqgraph.undo("b/plan.json", "b/fixed.onnx", output="c/back.onnx")
    assert Path("c/back.onnx").read_bytes() == original and weights("c/back.onnx") == 1
    Path("d").mkdir()
    qdqgraph.apply("b/plan.json", "a/model.onnx", output="d/fixed.onnx")
    assert Path("d/fixed.onnx").read_bytes() == Path("b/fixed.onnx").read_bytes() and weights("d/fixed.onnx") == 1


@pytest.mark.parametrize("kind", ["same", "dots", "link", "folder link", "hard link", "case", "elsewhere"])
def test_an_output_with_the_name_of_external_data_is_refused(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("link.onnx").symlink_to("a/w.data")
    Path("a2").symlink_to("a")
    os.link("a/w.data", "hard.onnx")
    Path("out").mkdir()
    output = {
        "same": "a/w.data",
        "dots": "b/../a/w.data",
        "link": "link.onnx",
        "folder link": "a2/w.data",
        "hard link": "hard.onnx",
        "case": "a/W.DATA",
        "elsewhere": "out/w.data",
    }[kind]
    for outputs in (["-o", output], ["-o", "out/x.onnx", "--plan", output]):
        line = refused(capsys, *outputs, "--force")
        assert f"qdqgraph: {output} " in line and "external data of" in line and "a/model.onnx" in line


def test_weights_of_another_model_are_no_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "b/precious.onnx" in refused(capsys, "-o", "b/w.data", "--force")
    assert "is the model that is read" in refused(capsys, "-o", "x.onnx", "--plan", "a/model.onnx", "--force")
    assert main(["draw", "a/model.onnx", "-o", "b/w.data", "--force", "--no-config"]) == 2
    with pytest.raises(ModelError, match="precious"):
        write_text("text", Path("b/w.data"), force=True)


def test_odd_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    for output in ("/dev/full", "/dev/stdout", "/dev/null", "/proc/self/fd/1", "pipe"):
        assert "is a device or a pipe; give the name of a regular file" in refused(capsys, "-o", output, "--force")
    assert "is a folder; give a file name" in refused(capsys, "-o", "b", "--force")
    assert "folder no does not exist" in refused(capsys, "-o", "no/x.onnx")
    assert "a loop of symbolic links" in refused(capsys, "-o", "loop", "--force")
    assert "cannot be written: File name too long" in refused(capsys, "-o", "x" * 300, "--force")
    if os.geteuid():
        Path("b").chmod(0o500)
        assert "cannot be written: Permission denied" in refused(capsys, "-o", "b/x.onnx")
    assert "cannot be written" in refused(capsys, "-o", "/sys/x.onnx")


def test_data_that_leave_the_folder_by_a_link_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a/w.data").unlink()
    Path("a/w.data").symlink_to("../b/w.data")
    assert "are outside the model's folder: w.data leads to" in refused(capsys, "-o", "x.onnx")
    Path("a/w.data").unlink()
    assert "is missing" in refused(capsys, "-o", "x.onnx")


def test_data_of_constants_subgraphs_and_functions_are_copied(tmp_path: Path) -> None:
    model = build(MODEL)

    def constant(name: str) -> onnx.NodeProto:
        tensor = numpy_helper.from_array(np.full(500, 7, np.float32), name)
        return helper.make_node("Constant", [], [name], value=tensor)

    branches = [helper.make_graph([constant(n)], n, [], [helper.make_tensor_value_info(n, 1, [500])]) for n in "pq"]
    model.graph.node.extend(
        [constant("c"), helper.make_node("If", ["k"], ["r"], then_branch=branches[0], else_branch=branches[1])]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "k"))
    model.functions.append(helper.make_function("d", "F", [], ["f"], [constant("f")], [helper.make_opsetid("", 17)]))
    model.graph.node.append(helper.make_node("F", [], ["u"], domain="d"))
    model.opset_import.append(helper.make_opsetid("d", 1))
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, [500]) for n in ("c", "r", "u"))
    folder = tmp_path / "there"
    folder.mkdir()
    tensors = [
        model.graph.node[-3].attribute[0].t,
        *(b.g.node[0].attribute[0].t for b in model.graph.node[-2].attribute),
        model.functions[0].node[0].attribute[0].t,
    ]
    for index, tensor in enumerate(tensors):
        (folder / f"{index}.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=f"{index}.bin")
    onnx.save(model, folder / "model.onnx")
    (tmp_path / "out").mkdir()
    qdqgraph.strip(folder / "model.onnx", ("y",), output=tmp_path / "out" / "new.onnx")
    (copy,) = [name for name in files(tmp_path / "out") if name != "new.onnx"]  # one content, one file
    assert files(tmp_path / "out")[copy] == np.full(500, 7, np.float32).tobytes()
    (folder / "3.bin").unlink()
    with pytest.raises(ModelError, match=r"3\.bin of 'f' is missing"):
        qdqgraph.strip(folder / "model.onnx", ("y",), output=tmp_path / "out" / "other.onnx")


def test_hidden_files_of_running_processes_and_other_names_stay(tmp_path: Path) -> None:
    from qdqgraph.model.writing.transaction import Transaction

    others = (".x.onnx.tmp", ".x.qdqgraph-1.tmp", "x.qdqgraph-1-0123abcd.tmp")
    for name in others:
        (tmp_path / name).write_text("not ours")
    (tmp_path / ".x.onnx.qdqgraph-1-0123abcd-0.tmp").write_text("of a dead run")
    with Transaction() as running:
        running.stage(tmp_path / "slow.onnx", lambda file: file.write(b"half"))
        write_text("text", tmp_path / "a.txt")
        assert running.staged[0].temporary.exists()
        running.commit()
    assert set(files(tmp_path)) == {*others, "a.txt", "slow.onnx"}
