"""`qdqgraph torch`: the whole flow on digits that scikit-learn-sized networks can learn, and the user's own mistakes."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.cli.user_code import called
from qdqgraph.errors import TorchError
from qdqgraph.rulekit import Graph

NETS = """
import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(1)


class Net(nn.Module):
    '''Stripes or checks: a residual Add, a Concat, a MaxPool.'''

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.a, self.b, self.c = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.b(torch.relu(self.a(x)))
        x = self.c(torch.cat([x, functional.max_pool2d(x, 3, 1, 1)], 1))
        return self.fc(torch.relu(x).mean((2, 3)))


class Stepping(Net):
    '''Calls an operator that the tracer's exporter does not know.'''

    def forward(self, x):
        return super().forward(x * torch.heaviside(x, torch.ones(())))


def stepping():
    torch.manual_seed(0)
    return Stepping().eval()


def images(seed, count=64):
    made = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=made)
    grid = torch.arange(8)
    stripes, checks = (grid[None] + 0 * grid[:, None]) % 2, (grid[None] + grid[:, None]) % 2
    pictures = torch.stack([checks if label else stripes for label in labels])[:, None].float()
    return pictures + 0.8 * torch.randn(pictures.shape, generator=made), labels


def build():
    torch.manual_seed(0)
    net = Net().train()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(60):
        pictures, labels = images(step)
        loss = functional.cross_entropy(net(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def batches():
    return [images(seed) for seed in range(100, 104)]


def nothing():
    return []


def score(net):
    pictures, labels = images(999, 400)
    with torch.no_grad():
        return float((net(pictures).argmax(1) == labels).float().mean())


def broken():
    return {}["weights"]


def plain():
    torch.manual_seed(0)
    return Net().eval()


def bare():
    return nn.Sequential(nn.ReLU(), nn.Flatten())


def leaving():
    raise SystemExit(3)


def raising():
    yield images(1)
    raise LookupError("the second picture")


def wide():
    yield torch.rand(2, 3, 8, 8)


def stopping(net):
    raise KeyboardInterrupt


calls = []


def tired(net):
    calls.append(net)
    if len(calls) > 5:
        raise TimeoutError("enough")
    return 0.5


def undefined(net):
    return float("nan")


def text(net=None):
    return "good"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mynets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mynets", None)


COMMON = ["--model", "mynets:build", "--data", "mynets:batches", "--eval", "mynets:score"]


def scores(out: str) -> dict[str, float]:
    lines = [line.split(": ") for line in out.splitlines()]
    return {line[0]: float(line[1]) for line in lines if line[0] in ("float", "calibrated", "fine-tuned")}


def test_quantize_scores_saves_and_writes_a_file_without_findings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("q.toml").write_text('[input]\nmethod = "percentile"\n')
    args = ["torch", "quantize", *COMMON, "--config", "q.toml", "-o", "net.onnx", "--save-ptq", "ptq.pt"]
    assert main(args) == 0
    out = capsys.readouterr().out
    found = scores(out)
    assert found["float"] > 0.9 and found["calibrated"] >= found["float"] - 0.02
    assert "linked: " in out and "net.onnx: 0 findings" in out
    assert not qdqgraph.check(onnx.load("net.onnx"), qdqgraph.rules())
    assert main(args) == 2 and "exists; use --force" in capsys.readouterr().err
    again = ["torch", "quantize", *COMMON, "--load", "ptq.pt", "-o", "again.onnx"]
    assert main(again) == 0
    assert scores(capsys.readouterr().out)["calibrated"] == found["calibrated"]
    assert Path("again.onnx").read_bytes() == Path("net.onnx").read_bytes()


def test_sensitivity_writes_ranking_table_and_picture_and_goes_on_where_it_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["torch", "sensitivity", *COMMON, "-o", "layers.json", "--direction", "enable"]
    assert main(args) == 0
    capsys.readouterr()
    data = json.loads(Path("layers.json").read_text())
    assert {"stem", "fc"} <= {layer for u in data["units"] for layer in u["layers"]}
    assert Path("layers.csv").read_text().startswith("rank,unit") and "<svg" in Path("layers.svg").read_text()
    data["units"] = data["units"][1:]
    Path("layers.json").write_text(json.dumps(data))
    assert main(args) == 0
    assert len(json.loads(Path("layers.json").read_text())["units"]) == len(data["units"]) + 1
    assert main([*args, "--block", "c", "--force"]) == 0


def ranked(file: str) -> None:
    """Writes a ranking of two units."""
    unit = {"score": 1.0, "cost": 0.5}
    units = [{"name": "stem", "layers": ["stem"], **unit}, {"name": "fc", "layers": ["fc"], **unit, "cost": 0.1}]
    ranking = {"direction": "disable", "model": "", "quantized": 0.5, "unquantized": 1.0, "units": units}
    Path(file).write_text(json.dumps(ranking))


def test_the_units_that_cost_the_most_can_be_left_in_float(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranked("layers.json")
    args = ["torch", "quantize", *COMMON, "-o", "net.onnx", "--off", "layers.json"]
    assert main([*args, "--budget", "0.2"]) == 0
    out = capsys.readouterr().out
    assert (
        "in float: stem" in out
        and "calibrated again: " in out
        and out.count("linked: ") == 2
        and "net.onnx: 0 findings" in out
    )
    graph = Graph(onnx.load("net.onnx"))
    bare = [n.name for n in graph.nodes("Conv", "Gemm") if n.inputs[1].inputs == []]
    assert len(bare) == 1 and "stem" in bare[0]
    assert main([*args, "--force"]) == 2 and "together with --top K or --budget COST" in capsys.readouterr().err


def test_the_dynamo_exporter_has_an_opset_of_its_own(folder: Path) -> None:
    pytest.importorskip("onnxscript")
    assert main(["torch", "quantize", *COMMON, "-o", "net.onnx", "--dynamo", "--method", "max"]) == 0
    assert onnx.load("net.onnx").opset_import[0].version == 18


def test_what_the_tracer_cannot_export_is_linked_again_by_dynamo(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    ranked("layers.json")
    args = ["torch", "quantize", "--model", "mynets:stepping", "--data", "mynets:batches", "--off", "layers.json"]
    assert main([*args, "--top", "1", "-o", "net.onnx"]) == 2 and "heaviside" in capsys.readouterr().err
    assert main([*args, "--top", "1", "-o", "net.onnx", "--dynamo", "--opset", "18"]) == 0
    out = capsys.readouterr().out
    assert "in float: stem" in out and out.count("linked: ") == 2


def test_finetune_trains_scores_saves_and_exports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["torch", "finetune", *COMMON, "-o", "net.onnx", "--save-qat", "qat.pt", "--epochs", "2", "--rate", "1e-3"]
    assert main(args) == 0
    out = capsys.readouterr().out
    found = scores(out)
    assert found["fine-tuned"] >= found["calibrated"] and "epoch 2 of 2: loss" in out
    assert Path("qat.pt").exists() and "net.onnx: 0 findings" in out


def test_the_cosine_rate_falls_from_step_to_step(folder: Path) -> None:
    rates: list[float] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        assert main(["torch", "finetune", *PLAIN, "-o", "net.onnx", "--epochs", "1", "--rate", "1e-3"]) == 0
    finally:
        hook.remove()
    assert len(rates) == 4 and rates == sorted(set(rates), reverse=True) and rates[0] == 1e-3


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
    folder: Path, changes: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = dict(zip(COMMON[::2], COMMON[1::2], strict=True)) | {"-o": "net.onnx"} | changes
    assert main(["torch", "quantize", *(word for pair in options.items() for word in pair)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.count("\n") == 0 and error.startswith("qdqgraph: ")
    assert not Path("net.onnx").exists()


PLAIN = ["--model", "mynets:plain", "--data", "mynets:batches"]


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
    folder: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    (folder / "folder").mkdir()
    assert main(["torch", "quantize", *PLAIN, "-o", "net.onnx", *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.count("\n") == 0 and error.startswith("qdqgraph: ")
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == ["folder", "mynets.py"]


def test_ctrl_c_says_what_was_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["torch", "quantize", *PLAIN, "-o", "net.onnx", "--eval", "mynets:stopping"]
    assert main(args) == 130 and "interrupted, nothing was written" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == ["mynets.py"]


def test_an_error_says_what_was_written_until_then(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    folder: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
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
    folder: Path, capsys: pytest.CaptureFixture[str]
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
    folder: Path, capsys: pytest.CaptureFixture[str]
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
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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
    option: str, value: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["torch", "finetune", *PLAIN, "-o", "net.onnx", option, value])
    assert left.value.code == 2 and f"{option}: '{value}' is not a" in capsys.readouterr().err


@pytest.mark.parametrize("beside", ["layers.csv", "layers.svg"])
def test_a_ranking_does_not_overwrite_what_lies_beside_it(
    beside: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / beside).write_text("mine")
    args = ["torch", "sensitivity", *PLAIN, "--eval", "mynets:score"]
    assert main([*args, "-o", "layers.json"]) == 2 and f"{beside} exists" in capsys.readouterr().err
    assert main([*args, "-o", beside, "--force"]) == 2 and "would be written twice" in capsys.readouterr().err
    (folder / "layers.json").write_text("{}")
    for missing in ("layers.json exists", f"{beside} exists"):
        assert main([*args, "-o", "layers.json"]) == 2 and missing in capsys.readouterr().err
        (folder / "layers.json").unlink(missing_ok=True)
    assert (folder / beside).read_text() == "mine"
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
    folder: Path, more: list[str], shown: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["torch", "quantize", *PLAIN, "-o", "net.onnx", *more]) == 2
    error = capsys.readouterr().err
    assert (
        shown in error
        and last in error.rstrip().splitlines()[-1]
        and "qdqgraph/cli/" not in error
        and "qdqgraph/torch/" not in error
    )


def test_errors_in_the_users_own_code_keep_their_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
        (folder / "mynets.py").write_text(f"{line}\n")
        sys.modules.pop("mynets", None)
        assert main(["torch", "quantize", *COMMON, "-o", "net.onnx"]) == 2
        error = capsys.readouterr().err
        assert line in error and f"failed with the {name} above" in error
        assert "qdqgraph/cli/" not in error and "pkgutil" not in error
