"""The house rules of the code: who may import whom, what importing costs, what a wheel holds."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qdqgraph.testing import outside_imports

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "qdqgraph"
FLOORS = [
    {"constants", "errors", "lines", "shapes"},
    {"protos", "target", "tomlfile"},
    {"sound"},
    {"graph", "opset", "rounding"},
    {"edit", "pair"},
    {"finding", "grid", "named", "patterns", "replacing"},
    {"clipping"},
    {"blocks", "rule", "weights"},
    {"codes", "draft", "plan", "requests", "solver", "unpair"},
    {"difference", "lower", "numerics", "options", "textrule"},
    {"catalog"},
    {"repair"},
    {"files", "follow", "testing", "verify"},
    {"engines"},
    {"half"},
    {"api"},
    {"report", "scaffold", "settings", "user_code", "why"},
    {"torch"},
    {"commands", "torch_arguments"},
    {"engine_arguments", "engine_commands", "rule_commands", "torch_commands"},
    {"cli"},
    {"__main__"},
]
"""A module imports only from floors below its own; `__init__` is the face over them."""


def imports(file: Path) -> set[str]:
    """The modules of this package that a file imports, by first name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = file.parent != PACKAGE and node.level == 1
            names = [node.module] if node.module else [a.name for a in node.names]
            found |= set() if inside else {name.split(".")[0] for name in names if name}
    return found


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


@pytest.mark.parametrize("file", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_import_only_from_floors_below(file: Path) -> None:
    level = {name: i for i, floor in enumerate(FLOORS) for name in floor}
    mine = file.parent.name if file.parent != PACKAGE else file.stem
    assert mine in level, f"{mine} has no floor: add it to FLOORS"
    upward = {name for name in imports(file) if name in level and level[name] >= level[mine] and name != mine}
    assert not upward, f"{mine} imports {upward} from its own floor or above"


@pytest.mark.parametrize("file", sorted((ROOT / "rules").rglob("*.py")), ids=lambda p: p.stem)
def test_rules_import_only_the_public_face(file: Path) -> None:
    assert outside_imports(file) == ()


def test_importing_loads_no_heavy_package_and_no_warning() -> None:
    code = (
        "import sys, qdqgraph; late = [f'qdqgraph.{module}' for module, _ in qdqgraph.LATE.values()];"
        "heavy = ['torch', 'onnxruntime', 'tensorrt_rtx', 'rich']; print([m for m in heavy + late if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    import qdqgraph

    assert all(getattr(qdqgraph, name) for name in qdqgraph.__all__)
    assert len(qdqgraph.__all__) == len(set(qdqgraph.__all__))


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
    tops = {name.split("/")[0] for name in names}
    assert tops == {"qdqgraph", "pytest_qdqgraph.py", next(t for t in tops if t.endswith(".dist-info"))}
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = "import qdqgraph; print(len(qdqgraph.rules()))"
    run = subprocess.run([sys.executable, "-c", code], cwd=target, capture_output=True, text=True, check=True)
    assert int(run.stdout) == len(rules) - 1, "all but codes.lock"
