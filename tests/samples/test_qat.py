"""The way from training to export on a few made-up images: every step, kept results, and what the table says."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("pytorch_quantization")

import qdqgraph
from qdqgraph import torch as side
from samples import demo, fashion, qat, record

STEPS = [f"max-{step}" for step in qat.STEPS]


def write(folder: Path, name: str, count: int, seed: int) -> None:
    """Images in Fashion-MNIST's own format: the class says which of ten places is bright."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count).astype(np.uint8)
    images = random.integers(0, 80, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 4 + 12 * (label // 5), 2 + 5 * (label % 5)
        image[row : row + 9, column : column + 4] += 150
    for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
        with gzip.open(folder / f"{name}-{kind}-ubyte.gz", "wb", compresslevel=1) as file:
            file.write(header + values.tobytes())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(folder, "train", 1200, 0)
    write(folder, "t10k", 200, 1)
    return folder


@pytest.fixture(scope="module")
def words(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    output = tmp_path_factory.mktemp("run") / "out"
    return ["--data", str(data), "-o", str(output), "--epochs", "2", "--tune", "1", "--method", "max"]


@pytest.fixture(scope="module")
def folder(words: list[str]) -> Path:
    qat.main(words)
    return Path(words[3])


def test_every_step_is_scored_and_its_file_answers_as_pytorch_does(folder: Path, data: Path) -> None:
    labels = fashion.load(data)[1].labels
    scores = {name: record.Score(**json.loads((folder / f"{name}.json").read_text())) for name in ["float", *STEPS]}
    assert scores["float"].accuracy > 40
    for name, score in scores.items():
        assert score.accuracy == 100 * np.mean(np.load(folder / f"{name}.npy") == labels), name
        assert score.moved <= 4, name
        assert abs(score.exported - score.accuracy) <= 2, name
    assert scores["max-plain"].findings
    for name in ("max-repaired", "max-linked", "max-tuned"):
        assert not scores[name].findings, name
        assert [f for f in qdqgraph.check(folder / f"{name}.onnx") if f.code[3] in "12"] == [], name
    assert scores["max-without"].findings.keys() <= {"QDQ201"}, "a skip that was switched off, at most"
    assert scores["max-linked"].scales < scores["max-linked"].pairs
    assert scores["max-without"].pairs < scores["max-linked"].pairs and "units off" in scores["max-without"].note


def test_finished_steps_are_kept_and_the_rest_is_done(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix in (".json", ".onnx")}
    (folder / "max-tuned.json").unlink()

    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="continues after the last step"):
        patched.setattr(side, "finetune", stopped)
        qat.main(words)
    assert not (folder / "max-tuned.json").exists() and capsys.readouterr().out.count("(kept)") == 5
    qat.main(words)
    out = capsys.readouterr().out
    assert out.count("(kept)") == 5 and "max-tuned: epoch 1 of 1" in out
    now = {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix in (".json", ".onnx")}
    changed = {name for name, time in now.items() if time != first[name]}
    assert changed == {"max-tuned.json", "max-tuned.onnx"}


def test_the_table_has_every_accuracy_and_the_difference_on_the_same_images(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    qat.main(words)
    head, rule, row = capsys.readouterr().out.strip().splitlines()[-3:]
    assert head.count("|") == rule.count("|") == row.count("|") == 10
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "max"
    plain, linked = float(cells[2]), float(cells[4])
    assert float(cells[7].split("±")[0]) == pytest.approx(linked - plain, abs=0.01)


def test_a_folder_of_another_run_or_without_images_is_refused(folder: Path, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds a run with"):
        qat.main([*words, "--tune", "2"])
    with pytest.raises(SystemExit, match="dataset-fashion-mnist"):
        qat.main(["--data", str(tmp_path), "-o", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_parts_are_disjoint_where_they_judge(data: Path) -> None:
    train, test = fashion.load(data)
    parts = qat.Parts.of(train, test)
    assert len(parts.train.images) + len(parts.judge.data.images) == len(train.images)
    assert not len(parts.train.images) % demo.BATCH
    assert np.array_equal(parts.judge.data.images, train.images[-len(parts.judge.data.images) :])
    assert np.array_equal(parts.tune.data.images, parts.train.images[: len(parts.tune.data.images)])
