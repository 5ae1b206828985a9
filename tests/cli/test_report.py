"""--report and the command report: one HTML file, written whole or not at all, and never over something else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.cli.main import main
from tests.support.models import CONCAT, build


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(build(CONCAT), path)
    return path


def said(path: Path) -> str:
    """The first sentence of a report."""
    found = re.search(r'class="says">(.*?)<', path.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def test_check_writes_what_it_finds(model: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["check", str(model), "--report", str(page)]) == 1
    assert re.match(r"\d+ findings that cost .* weighted layers in INT8", said(page))


def test_fix_writes_before_and_after(model: Path, tmp_path: Path) -> None:
    page, fixed = tmp_path / "report.html", tmp_path / "fixed.onnx"
    assert main(["fix", str(model), "-o", str(fixed), "--report", str(page), "--no-numerics"]) == 0
    text = page.read_text(encoding="utf-8")
    assert said(page).endswith("repaired, 0 left") and '"title":"after"' in text and str(fixed) in text


def test_report_of_two_files_says_the_same_as_that_of_their_repair(model: Path, tmp_path: Path) -> None:
    fixed, first, second = (tmp_path / name for name in ("fixed.onnx", "first.html", "second.html"))
    assert main(["fix", str(model), "-o", str(fixed), "--report", str(first), "--no-numerics"]) == 0
    assert main(["report", str(model), "--fixed", str(fixed), "-o", str(second)]) == 0
    assert said(first) == said(second)


def test_engine_diff_writes_both_engines(model: Path, tmp_path: Path) -> None:
    page, fixed = tmp_path / "report.html", tmp_path / "fixed.onnx"
    assert main(["fix", str(model), "-o", str(fixed), "--no-numerics"]) == 0
    assert main(["engine", "diff", str(model), str(fixed), "--report", str(page)]) == 0
    assert said(page) == "fixed.onnx is not worse" and '"title":"B"' in page.read_text(encoding="utf-8")


def test_a_file_that_exists_stays_without_force(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine", encoding="utf-8")
    for command in (["check", str(model), "--report", str(page)], ["report", str(model), "-o", str(page)]):
        assert main(command) == 2
        assert "exists; use --force" in capsys.readouterr().err and page.read_text(encoding="utf-8") == "mine"
        assert main([*command, "--force"]) in (0, 1) and said(page)
        page.write_text("mine", encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["check", "MODEL", "--report", "report.txt"], "use the file extension .html"),
        (["check", "MODEL", "--report", "MODEL"], "use the file extension .html"),
        (["check", "MODEL", "MODEL", "--report", "report.html"], "--report is about one model"),
        (["fix", "MODEL", "-o", "both.html", "--report", "both.html"], "both.html is given for two outputs"),
        (
            ["fix", "MODEL", "-o", "o.onnx", "--data", "no.npz", "--reference", "no.onnx", "--report", "r.html"],
            "no.npz: no such file or folder",
        ),
        (["fix", "MODEL", "-o", "o.onnx", "--report", "no/such/report.html"], "does not exist"),
    ],
)
def test_a_report_that_cannot_be_written_stops_the_command_before_it_works(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(model) if option == "MODEL" else option for option in options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_error_and_tune_write_what_they_measure(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("optuna")
    random = np.random.default_rng(0)
    data, page = tmp_path / "data.npz", tmp_path / "report.html"
    x, t = (random.normal(0, 4, (4, 4, 8, 8)).astype(np.float32) for _ in range(2))
    np.savez(data, x=x, t=t)
    common = ["--data", str(data), "--report", str(page), "--force"]
    assert main(["error", str(model), *common]) == 0
    assert said(page).startswith("Worst layer alone: ")
    assert main(["error", str(model), "--as", "trt-10", *common]) == 0
    assert "compute other values than ONNX Runtime" in said(page)
    assert main(["tune", str(model), "--trials", "0", *common]) == 0
    assert said(page).startswith("Chosen: ") and '"role":"chosen"' in page.read_text(encoding="utf-8")
