"""`qdqgraph torch`: the whole flow on digits that scikit-learn-sized networks can learn."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

from torch.optim.optimizer import register_optimizer_step_post_hook

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.rulekit import Graph
from tests.support.torch_nets import COMMON, PLAIN, ranked


def scores(out: str) -> dict[str, float]:
    lines = [line.split(": ") for line in out.splitlines()]
    return {line[0]: float(line[1]) for line in lines if line[0] in ("float", "calibrated", "fine-tuned")}


def test_quantize_scores_saves_and_writes_a_file_without_findings(
    nets: Path, capsys: pytest.CaptureFixture[str]
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
    nets: Path, capsys: pytest.CaptureFixture[str]
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


def test_the_units_that_cost_the_most_can_be_left_in_float(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_the_dynamo_exporter_has_an_opset_of_its_own(nets: Path) -> None:
    pytest.importorskip("onnxscript")
    assert main(["torch", "quantize", *COMMON, "-o", "net.onnx", "--dynamo", "--method", "max"]) == 0
    assert onnx.load("net.onnx").opset_import[0].version == 18


def test_what_the_tracer_cannot_export_is_linked_again_by_dynamo(
    nets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    ranked("layers.json")
    args = ["torch", "quantize", "--model", "mynets:stepping", "--data", "mynets:batches", "--off", "layers.json"]
    assert main([*args, "--top", "1", "-o", "net.onnx"]) == 2 and "heaviside" in capsys.readouterr().err
    assert main([*args, "--top", "1", "-o", "net.onnx", "--dynamo", "--opset", "18"]) == 0
    out = capsys.readouterr().out
    assert "in float: stem" in out and out.count("linked: ") == 2


def test_finetune_trains_scores_saves_and_exports(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["torch", "finetune", *COMMON, "-o", "net.onnx", "--save-qat", "qat.pt", "--epochs", "2", "--rate", "1e-3"]
    assert main(args) == 0
    out = capsys.readouterr().out
    found = scores(out)
    assert found["fine-tuned"] >= found["calibrated"] and "epoch 2 of 2: loss" in out
    assert Path("qat.pt").exists() and "net.onnx: 0 findings" in out


def test_the_cosine_rate_falls_from_step_to_step(nets: Path) -> None:
    rates: list[float] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        assert main(["torch", "finetune", *PLAIN, "-o", "net.onnx", "--epochs", "1", "--rate", "1e-3"]) == 0
    finally:
        hook.remove()
    assert len(rates) == 4 and rates == sorted(set(rates), reverse=True) and rates[0] == 1e-3
