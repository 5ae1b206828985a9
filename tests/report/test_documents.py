"""The documents of --json: each command that prints one has a schema, and what it prints fits that schema exactly."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest

from qdqgraph.authoring.schemas import SCHEMAS
from qdqgraph.cli.main import main, parser
from qdqgraph.documents import VERSIONS
from qdqgraph.report import documents
from tests.support.models import build
from tests.support.paths import DATA

MODEL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,4,8,8] u, float[1,8,8,8] w)
    <float big = {0.5}, int8 three = {3}> {
    a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2)
    q = QuantizeLinear (x, s3, three) d = DequantizeLinear (q, s3, three) u = Sigmoid (d)
    c = t.conv4 (x, s4) p = t.pair (c, s1) e = Concat <axis = 1> (c, a) w = t.pair (e, big) }"""
LEGAL = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = t.conv4 (x, s1) b = Softmax (a) y = t.conv4 (b, s2) }"
FLOAT = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,1,1,1] w = {1, 2, 3, 4}> { a = Conv <group = 4> (x, w) y = Relu (a) }"
NETWORK = """
import torch

print("imported")


def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()


def batches():
    return [torch.rand(2, 1, 8, 8)]


def score(net):
    return float(net(torch.ones(1, 1, 8, 8)).detach().mean())
"""
TORCH = [f"--{option}=tiny.py:{name}" for option, name in (("model", "build"), ("data", "batches"), ("eval", "score"))]
ENGINES = "qat.graph.json", "qat-residual.graph.json"
DATA_OPTION = ["--data", "data.npz", "--no-config"]
SEARCH = ["tune", "legal.onnx", *DATA_OPTION, "--trials", "0"]

RUNS: dict[str, list[list[str]]] = {
    "check": [["model.onnx", "legal.onnx", "--no-config"]],
    "fix": [
        ["model.onnx", "--dry-run", "--no-config", "--no-numerics"],
        ["model.onnx", "--dry-run", "--fp16", *DATA_OPTION, "--bias-correction"],
    ],
    "quantize": [["float.onnx", "--dry-run", *DATA_OPTION]],
    "strip": [["legal.onnx", "--nodes", "y", "-o", "stripped.onnx", "--force"]],
    "apply": [["plan.json", "model.onnx", "-o", "applied.onnx", "--force"]],
    "undo": [["plan.json", "fixed.onnx", "-o", "undone.onnx", "--force"]],
    "diff": [["legal.onnx", "legal.onnx"], ["legal.onnx", "model.onnx"]],
    "rules list": [["--no-config"]],
    "rules test": [["my_rule.toml"]],
    "explain": [["QDQ101", "--no-config"], ["QDQ206", "--no-config"]],
    "why": [["QDQ101", "model.onnx", "--at", "e", "--no-config"], ["QDQ101", "model.onnx", "--at", "x", "--no-config"]],
    "error": [["model.onnx", *DATA_OPTION]],
    "error --as": [["trt-10", "legal.onnx", *DATA_OPTION]],
    "sensitivity": [["legal.onnx", *DATA_OPTION, "--mode", "both"]],
    "tune": [SEARCH[1:]],
    "tune --status": [["legal.onnx"]],
    "torch quantize": [[*TORCH, "-o", "net.onnx"]],
    "torch finetune": [[*TORCH, "-o", "trained.onnx", "--epochs", "1", "--no-compare"]],
    "torch sensitivity": [[*TORCH, "-o", "layers.json"]],
    "engine forecast": [["legal.onnx"]],
    "engine build": [["legal.onnx", "--with", "tensorrt-rtx"]],
    "engine read": [["qat.graph.json"]],
    "engine diff": [[*ENGINES]],
    "engine time": [[*ENGINES], [ENGINES[0], "--device", "orin"]],
}
"""Commands with their arguments: each is run with --json."""
PACKAGES = {"engine build": "tensorrt_rtx", "tune": "optuna", "tune --status": "optuna"} | dict.fromkeys(
    ("torch quantize", "torch finetune", "torch sensitivity"), "pytorch_quantization"
)
RUNTIME = {"fix", "quantize", "error", "error --as", "sensitivity", "tune", "tune --status", "torch quantize"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models")
    for name, text in (("model", MODEL), ("legal", LEGAL), ("float", FLOAT)):
        onnx.save(build(text), found / f"{name}.onnx")
    random = np.random.default_rng(0)
    np.savez(found / "data.npz", x=random.normal(0, 3, (4, 4, 8, 8)).astype(np.float32))
    (found / "tiny.py").write_text(NETWORK)
    for name in ENGINES:
        shutil.copy(DATA / name, found)
    made = [str(found / name) for name in ("model.onnx", "fixed.onnx", "plan.json")]
    assert main(["fix", made[0], "-o", made[1], "--plan", made[2], "--no-numerics", "--no-config", "-q"]) == 0
    assert main(["rules", "new", "my-rule", "--folder", str(found)]) == 0
    return found


def commands(verb: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[str]:
    """The commands with an option --json, in words."""
    for action in verb._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from commands(inner, (*words, name))
        elif "--json" in action.option_strings:
            yield " ".join(words)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, which allows no key that it does not name."""
    found = copy.deepcopy(schema)
    for part in (found, *found["$defs"].values()):
        if "properties" in part:
            part["additionalProperties"] = False
    return found


def read(document: documents.Printed) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(document.file.read_text(encoding="utf-8"))
    return schema


def test_every_command_with_json_prints_a_listed_document_and_is_run_here() -> None:
    listed = [command for document in documents.DOCUMENTS for command in document.commands]
    assert len(listed) == len(set(listed))
    assert {command.partition(" --")[0] for command in listed} == set(commands(parser()))
    assert set(RUNS) == set(listed)


def test_every_document_has_a_version_and_one_schema_in_the_package() -> None:
    assert sorted(document.name for document in documents.DOCUMENTS) == sorted(VERSIONS)
    assert sorted(documents.FOLDER.iterdir()) == sorted(document.file for document in documents.DOCUMENTS)


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=lambda document: document.name)
def test_a_schema_is_valid_and_that_of_the_type(document: documents.Printed) -> None:
    jsonschema.Draft202012Validator.check_schema(read(document))
    assert '"additionalProperties": false' not in document.file.read_text("utf-8"), "a later version may add keys"
    assert document.file.read_text(encoding="utf-8") == documents.schemas()[document.file], (
        "run: python -m qdqgraph.report.documents"
    )


def test_the_page_lists_them() -> None:
    assert documents.PAGE.read_text(encoding="utf-8") == documents.page(), "run: python -m qdqgraph.report.documents"
    assert {path.name for path in SCHEMAS} == {"rule.schema.json", "plan.schema.json"}, "schemas of files, not printed"


@pytest.mark.parametrize(
    ("document", "command", "arguments"),
    [
        pytest.param(document, command, arguments, id=f"{command}-{number}")
        for document in documents.DOCUMENTS
        for command in document.commands
        for number, arguments in enumerate(RUNS[command])
    ],
)
def test_what_a_command_prints_fits_its_schema_exactly(
    document: documents.Printed,
    command: str,
    arguments: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if command in RUNTIME:
        pytest.importorskip("onnxruntime")
    if command in PACKAGES:
        pytest.importorskip(PACKAGES[command])
    monkeypatch.chdir(folder)
    if command == "tune --status" and not list(folder.glob("*.tune.db")):
        assert main(SEARCH) == 0
        capsys.readouterr()
    verb, _, option = command.partition(" --")
    assert main([*verb.split(), *([f"--{option}"] if option else []), *arguments, "--json"]) in (0, 1)
    text = capsys.readouterr().out
    text.encode("ascii")
    content = json.loads(text)
    schema = read(document)
    jsonschema.Draft202012Validator(closed(schema)).validate(content)
    assert (next(iter(content)), content["schema"]) == ("schema", schema["$id"])
    open_schema = jsonschema.Draft202012Validator(schema)
    required = schema["$defs"][document.kind.__name__]["required"]
    assert set(required) <= set(content) and len(required) > 1
    for key in required:
        assert not open_schema.is_valid({name: value for name, value in content.items() if name != key}), key
    assert not open_schema.is_valid({**content, "schema": "urn:qdqgraph:other:1"})
    open_schema.validate(more(content, root=True))


def more(value: Any, *, root: bool = False) -> Any:
    """A document of a later version, which may have more keys at every level."""
    if isinstance(value, dict):  # keys of an object that is not in a list may be names of tensors
        known = {name: more(inner) for name, inner in value.items()}
        return known | {"added_later": 1} if root else known
    if isinstance(value, list):
        return [inner | {"added_later": 1} if isinstance(inner, dict) else inner for inner in map(more, value)]
    return value
