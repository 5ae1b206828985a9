"""`qdqgraph torch`: mistakes of the user are one sentence, before the work where that is possible."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.cli.user_code import called
from qdqgraph.errors import TorchError
from tests.support.torch_nets import COMMON, PLAIN, ranked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--model": "mynets"}, "write package.module:function"),
        ({"--model": "my-nets:build"}, "write package.module:function or file.py:function, each part a name in Python"),
        ({"--model": "nonets:build"}, "there is no module 'nonets'"),
        ({"--model": "mynets:biuld"}, "has no 'biuld'"),
        ({"--model": "mynets:text"}, "returns a str, which is not a torch module"),
        ({"--data": "mynets:nothing"}, "yields nothing"),
        ({"--data": "mynets:text"}, "yields str"),
        ({"--eval": "mynets:text"}, "'good', which is not a number"),
        ({"--config": "missing.toml"}, "cannot be read"),
        ({"-o": "nowhere/net.onnx"}, "folder nowhere does not exist"),
        ({"--opset": "9"}, "opset 13 to 20"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    nets: Path, changes: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = dict(zip(COMMON[::2], COMMON[1::2], strict=True)) | {"-o": "net.onnx"} | changes
    assert main(["torch", "quantize", *(word for pair in options.items() for word in pair)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.count("\n") == 0 and error.startswith("qdqgraph: ")
    assert not Path("net.onnx").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--eval", "mynets:undefined"], "returns nan, which is not a number"),
        (["--model", "mynets:bare"], "no layer that can be quantized"),
        (["--device", "cuda"], "--device cuda cannot be used here: "),
        (["--device", "gpu"], "--device gpu cannot be used here: "),
        (["--save-ptq", "net.onnx"], "net.onnx would be written twice"),
        (["-o", "folder"], "folder is a folder; give a file name"),
        (["--load", "ptq.pt", "--method", "mse"], "--method has no effect: the state of --load"),
        (["--load", "ptq.pt", "--config", "q.toml"], "--config defines how to quantize, but the state of --load"),
        (["--load", "missing.pt"], "missing.pt: cannot be read"),
    ],
)
def test_what_cannot_work_is_said_before_the_work(
    nets: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    (nets / "folder").mkdir()
    assert main(["torch", "quantize", *PLAIN, "-o", "net.onnx", *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.count("\n") == 0 and error.startswith("qdqgraph: ")
    assert sorted(p.name for p in nets.iterdir() if p.name != "__pycache__") == ["folder", "mynets.py"]


def test_ctrl_c_says_what_was_written(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["torch", "quantize", *PLAIN, "-o", "net.onnx", "--eval", "mynets:stopping"]
    assert main(args) == 130 and "interrupted, nothing was written" in capsys.readouterr().err
    assert sorted(p.name for p in nets.iterdir() if p.name != "__pycache__") == ["mynets.py"]


def test_an_error_says_what_was_written_until_then(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["torch", "sensitivity", *PLAIN, "--eval", "mynets:tired", "-o", "layers.json"]
    assert main(args) == 2
    last = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert last == "qdqgraph: mynets:tired failed with the TimeoutError above; written so far: layers.json"
    assert main(args) == 2  # without a new score
    assert capsys.readouterr().err.rstrip().splitlines()[-1].endswith("failed with the TimeoutError above")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--off", "missing.json", "--top", "1"], "missing.json: cannot be read: No such file"),
        (["--off", "odd", "--top", "1"], "odd: this is not a sensitivity result"),
        (["--load", "odd"], "odd: cannot be read as a quantized state"),
        (["--config", "odd"], "odd: cannot be read"),
        (["--rules", "missing"], "there is no rule file or folder missing"),
    ],
)
def test_files_are_read_before_any_of_the_users_code_runs(
    nets: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("odd").write_bytes(b"\xff\xfe")
    assert main(["torch", "quantize", "--model", "mynets:broken", "--data", "mynets:batches", "-o", "x", *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.count("\n") == 0


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence that a command ends with."""
    assert main(["torch", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("qdqgraph: ") and error.count("\n") == 0
    return error


BROKEN = ("--model", "mynets:broken", "--data", "mynets:batches")
"""A network that cannot be made: whoever asks for it fails with its traceback."""


def test_a_ranking_of_another_direction_or_state_is_refused_before_any_of_the_users_code_runs(
    nets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranked("layers.json")
    args = ("sensitivity", *BROKEN, "--eval", "mynets:score", "-o", "layers.json")
    message = "layers.json is a ranking by --direction disable: use that, name another file, or --force"
    assert message in refused(capsys, *args, "--direction", "enable")
    assert main(["torch", "quantize", *PLAIN, "-o", "net.onnx", "--save-ptq", "ptq.pt"]) == 0
    assert "layers.json ranks another model than ptq.pt" in refused(capsys, *args, "--load", "ptq.pt")
    capsys.readouterr()
    own = ("sensitivity", *PLAIN, "--eval", "mynets:score", "--load", "ptq.pt", "-o", "own.json")
    assert main(["torch", *own]) == 0 == main(["torch", *own]), "its own ranking goes on"


def test_what_does_not_belong_to_the_network_is_refused_before_it_is_calibrated(
    nets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = ("--eval", "mynets:score")
    assert main(["torch", "sensitivity", *PLAIN, *score, "-o", "layers.json"]) == 0
    capsys.readouterr()
    once = ("--data", "mynets:raising")  # whoever asks for its second batch fails
    ranking = json.loads(Path("layers.json").read_text())
    ranking["units"][0].update(name="head", layers=["head"])
    Path("other.json").write_text(json.dumps(ranking))
    rank = ("sensitivity", "--model", "mynets:plain", *once, *score)
    net = ("--model", "mynets:plain", *once, "-o", "net.onnx")
    for words, message in (
        (("sensitivity", "--model", "mynets:build", *once, *score, "-o", "layers.json"), "other weights or amax"),
        ((*rank, "-o", "other.json"), "other.json: this is the result of another run"),
        ((*rank, "-o", "new.json", "--block", "neck"), "there is no module 'neck' to use as a block"),
        (("finetune", *net, "--supervise", "neck.*"), "supervise: no module matches 'neck.*'"),
        (("quantize", *net, "--off", "other.json", "--top", "1"), "the model has no quantized layer 'head'"),
    ):
        for name in (".csv", ".svg"):
            Path("other").with_suffix(name).touch()
        assert message in refused(capsys, *words)
    assert not Path("net.onnx").exists()


def test_a_missing_exporter_and_a_folder_that_cannot_be_written_to_are_refused_at_once(
    nets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "/proc/net.onnx is a device or a pipe" in refused(capsys, "quantize", *BROKEN, "-o", "/proc/net.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    needed = "the dynamo exporter needs onnxscript: pip install"
    for what in ("quantize", "finetune"):
        assert needed in refused(capsys, what, *BROKEN, "-o", "net.onnx", "--dynamo", "--no-link")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--batches", "0"), ("--percentile", "101"), ("--epochs", "-1"), ("--rate", "nan"), ("--rate", "0")),
        *(("--budget", "nan"), ("--budget", "-1"), ("--budget", "inf")),
    ],
)
def test_numbers_that_are_none_are_refused(
    option: str, value: str, nets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["torch", "finetune", *PLAIN, "-o", "net.onnx", option, value])
    assert left.value.code == 2 and f"{option}: '{value}' is not a" in capsys.readouterr().err


@pytest.mark.parametrize("beside", ["layers.csv", "layers.svg"])
def test_a_ranking_does_not_overwrite_what_lies_beside_it(
    beside: str, nets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nets / beside).write_text("mine")
    args = ["torch", "sensitivity", *PLAIN, "--eval", "mynets:score"]
    assert main([*args, "-o", "layers.json"]) == 2 and f"{beside} exists" in capsys.readouterr().err
    assert main([*args, "-o", beside, "--force"]) == 2 and "would be written twice" in capsys.readouterr().err
    (nets / "layers.json").write_text("{}")
    for missing in ("layers.json exists", f"{beside} exists"):
        assert main([*args, "-o", "layers.json"]) == 2 and missing in capsys.readouterr().err
        (nets / "layers.json").unlink(missing_ok=True)
    assert (nets / beside).read_text() == "mine"
    ranked("layers.json")
    assert main([*args, "-o", "layers.json"]) == 2 and "other weights or amax" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "shown", "last"),
    [
        (["--model", "mynets:leaving"], "raise SystemExit(3)", "mynets:leaving failed with the SystemExit above"),
        (["--data", "mynets:raising"], "the second picture", "--data mynets:raising failed with the LookupError above"),
        (["--data", "mynets:wide"], "expected input", "on the first input, failed with the RuntimeError above"),
    ],
)
def test_errors_in_loaders_and_networks_are_the_users_too(
    nets: Path, more: list[str], shown: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["torch", "quantize", *PLAIN, "-o", "net.onnx", *more]) == 2
    error = capsys.readouterr().err
    assert (
        shown in error
        and last in error.rstrip().splitlines()[-1]
        and "qdqgraph/cli/" not in error
        and "qdqgraph/torch/" not in error
    )


def test_errors_in_the_users_own_code_keep_their_traceback(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["torch", "quantize", "--model", "mynets:broken", "--data", "mynets:batches", "-o", "net.onnx"]
    assert main(args) == 2
    error = capsys.readouterr().err
    assert 'return {}["weights"]' in error and "qdqgraph/cli/" not in error and "qdqgraph/torch/" not in error
    assert error.rstrip().splitlines()[-1] == "qdqgraph: mynets:broken failed with the KeyError above"
    beside = f"{Path(qdqgraph.__file__).parent}_nets/mine.py"  # a folder whose name begins as ours does
    made: dict[str, Any] = {}
    exec(compile("def broken():\n    raise LookupError", beside, "exec"), made)
    with pytest.raises(TorchError):
        called(made["broken"], "mine:broken")
    assert beside in capsys.readouterr().err
    for line, name in (("import missing_package", "ModuleNotFoundError"), ("int.parse", "AttributeError")):
        (nets / "mynets.py").write_text(f"{line}\n")
        sys.modules.pop("mynets", None)
        assert main(["torch", "quantize", *COMMON, "-o", "net.onnx"]) == 2
        error = capsys.readouterr().err
        assert line in error and f"failed with the {name} above" in error
        assert "qdqgraph/cli/" not in error and "pkgutil" not in error
