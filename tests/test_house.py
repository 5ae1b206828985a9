"""The house rules of the code: who may import whom, what importing costs, what a wheel holds."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import qdqgraph
import qdqgraph.api
import qdqgraph.rulekit
from qdqgraph.authoring.testing import outside_imports
from tests.support.paths import PACKAGE, ROOT

MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def test_packages_import_only_from_floors_below_and_no_module_from_a_cycle() -> None:
    """The contracts are in pyproject.toml, under [tool.importlinter]."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    run = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("file", sorted((ROOT / "rules").rglob("*.py")), ids=lambda p: p.stem)
def test_rules_import_only_the_public_face(file: Path) -> None:
    assert outside_imports(file) == ()


def test_no_test_imports_another() -> None:
    """What several tests need lies in tests/support, which holds no tests itself."""
    imports = re.compile(r"^\s*(?:from|import) +(\.|tests\b(?!\.support\b))", re.MULTILINE)
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert [str(p.relative_to(ROOT)) for p in files if imports.search(p.read_text(encoding="utf-8"))] == []
    assert not [p.name for p in (ROOT / "tests" / "support").glob("test_*.py")]


def test_importing_loads_no_heavy_package_and_no_warning() -> None:
    code = (
        "import sys, qdqgraph; late = [m for m in sys.modules if m.startswith('qdqgraph.') and m != 'qdqgraph.errors'];"
        "heavy = ['torch', 'onnxruntime', 'tensorrt_rtx', 'onnx_graphsurgeon', 'rich']; print([m for m in heavy if m in sys.modules] + late)"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    for face in (qdqgraph, qdqgraph.api, qdqgraph.rulekit):
        assert all(getattr(face, name) for name in face.__all__)
        assert len(face.__all__) == len(set(face.__all__))
    assert set(qdqgraph.LATE) < set(qdqgraph.__all__)
    assert sorted(name for names in qdqgraph.api.MODULES.values() for name in names) == sorted(qdqgraph.api.__all__)


def test_modules_can_be_read_in_one_sitting() -> None:
    long = {p.name: n for p in MODULES if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_a_wheel_ships_the_rules_inside_the_package(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    if subprocess.run([sys.executable, "-c", "import hatchling"], capture_output=True, check=False).returncode:
        pytest.skip("hatchling, the build backend, is not installed here")
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    rules = {str(p.relative_to(ROOT)) for p in (ROOT / "rules").rglob("*.*") if p.suffix in (".py", ".toml", ".lock")}
    assert {f"qdqgraph/{name}" for name in rules} <= set(names)
    kinds = (".toml", ".json", ".txt", ".typed", ".html", ".js", ".css", ".md")
    data = {str(p.relative_to(ROOT)) for p in PACKAGE.rglob("*") if p.suffix in kinds}
    assert data and data <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {"qdqgraph", "pytest_qdqgraph.py", next(t for t in tops if t.endswith(".dist-info"))}
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = "import qdqgraph; print(len(qdqgraph.rules()))"
    run = subprocess.run([sys.executable, "-c", code], cwd=target, capture_output=True, text=True, check=True)
    assert int(run.stdout) == len(rules) - 1, "all but codes.lock"
