"""The wheel and the sdist: each contains all that the program reads, and runs outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.support.models import CONCAT, build
from tests.support.paths import ROOT

pytest.importorskip("hatchling", reason="the build backend is not installed here")

PACKAGE = ROOT / "qdqgraph"
Command = Callable[..., str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A wheel and an sdist of the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def _installed(source: Path, folder: Path) -> Path:
    """Installs a wheel or an unpacked sdist into a folder, without dependencies and without network."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def site(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    return _installed(built[0], tmp_path_factory.mktemp("empty") / "site")


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Command:
    """Runs a command of the installed program in an empty folder; returns its output."""
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}

    def call(*words: str) -> str:
        command = [sys.executable, str(site / "bin" / "qdqgraph"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
        return done.stdout

    return call


def _files(folder: Path) -> set[str]:
    """What belongs into the package: all files of a folder but those that Python writes."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in found}


def test_a_wheel_contains_every_file_of_the_package_and_the_rules(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    assert {f"qdqgraph/{name}" for name in _files(PACKAGE)} <= names
    assert {f"qdqgraph/rules/{name}" for name in _files(ROOT / "rules")} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"qdqgraph", "pytest_qdqgraph.py", next(top for top in tops if top.endswith(".dist-info"))}


def test_an_sdist_gives_the_same_wheel_and_contains_its_tests(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    assert (tree / "tests" / "test_distribution.py").is_file() and (tree / "constraints-lowest.txt").is_file()
    own = _installed(tree, tmp_path / "site")
    assert {f"qdqgraph/{name}" for name in _files(own / "qdqgraph")} == {
        name for name in zipfile.ZipFile(built[0]).namelist() if name.startswith("qdqgraph/")
    }


def test_the_installed_program_runs_outside_the_checkout(run: Command, site: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import qdqgraph; print(qdqgraph.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    onnx.save(build(CONCAT), tmp_path / "model.onnx")
    assert "QDQ101" in run("check", "model.onnx")
    assert '"QDQ101"' in run("check", "model.onnx", "--json")
    run("fix", "model.onnx", "-o", "fixed.onnx", "--plan", "plan.json", "--no-numerics")
    run("undo", "plan.json", "fixed.onnx", "-o", "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_the_installed_program_has_its_rules_schemas_and_templates(run: Command, tmp_path: Path) -> None:
    codes = {line.split()[0] for line in run("rules", "list").splitlines() if line.startswith("QDQ")}
    assert len(codes) == sum(
        path.name != "codes.lock" and path.suffix in (".py", ".toml") for path in (ROOT / "rules").rglob("*.*")
    )
    assert "Concat" in run("explain", "QDQ101")
    for kind in ("--text", "--python"):
        run("rules", "new", f"mine-{kind[2:]}", kind)
    run("rules", "test", "mine_text.toml", "mine_python_rule.py")
