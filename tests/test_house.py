"""The house rules of the code: who may import whom, and what importing costs."""

import re
import subprocess
import sys
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
        "import sys, qdqgraph; late = [m for m in sys.modules if m.startswith('qdqgraph.') and m not in ('qdqgraph.errors', 'qdqgraph.late')];"
        "heavy = ['torch', 'onnxruntime', 'tensorrt_rtx', 'onnx_graphsurgeon', 'rich']; print([m for m in heavy if m in sys.modules] + late)"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    for face in (qdqgraph, qdqgraph.api, qdqgraph.rulekit):
        assert all(getattr(face, name) for name in face.__all__)
        assert len(face.__all__) == len(set(face.__all__))
    assert set(" ".join(qdqgraph.LATE.values()).split()) < set(qdqgraph.__all__)
    assert sorted(" ".join(qdqgraph.api.LATE.values()).split()) == sorted(qdqgraph.api.__all__)


def test_modules_can_be_read_in_one_sitting() -> None:
    long = {p.name: n for p in MODULES if (n := len(p.read_text().splitlines())) > 350}
    assert not long
