"""The table of operators: every entry is sound, one entry is enough for a new operator, and there is no second list."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from qdqgraph.categories import CATEGORIES
from qdqgraph.graph.moves import CONDITIONS
from qdqgraph.operators import MOVES, OPERATORS, Operator, members
from qdqgraph.versions import tomllib
from tests.support.paths import ROOT

NAMES = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
OWN = {
    ("qdqgraph/calibration/uses.py", "COMPARES"): "how each comparison is computed",
    ("qdqgraph/model/shapes.py", "FOLDS"): "how each operator of shape arithmetic is computed",
    ("qdqgraph/torch/comparison/diagnosis.py", "REORDERING"): "what changes the order of nearly equal values",
    ("qdqgraph/repair/draft.py", "SWEPT"): "what a draft promises to remove once nothing reads it",
    ("rules/legality/bias_quantized.py", "TABLES"): "operators whose quantized constants are weights for this rule",
    ("rules/legality/operator_fused.py", "PLAIN"): "values of the attribute `activation`, not nodes",
    ("rules/legality/operator_fused.py", "DEFAULTS"): "values of the attribute `activation`, not nodes",
}
"""Lists of three or more operators outside the table, with the reason why each is one module's or one rule's own."""


# Entries


@pytest.mark.skipif(onnx.defs.onnx_opset_version() < 24, reason="the table has operators of opset 24")
def test_every_operator_is_one_of_onnx_and_is_named_once() -> None:
    names = [operator.name for operator in OPERATORS]
    assert set(names) <= NAMES and len(names) == len(set(names))


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_every_entry_has_a_source(operator: Operator) -> None:
    for source in operator.source.split(", "):
        assert re.match(r"https://|measured on |docs/", source), source
        assert not source.startswith("docs/") or (ROOT / source).is_file()


def test_every_category_has_operators_and_a_sentence() -> None:
    for category, says in CATEGORIES.items():
        assert members(category) and says.endswith("."), category


def test_conditions_are_those_that_are_checked_and_belong_to_moves() -> None:
    conditional = {operator.name: operator.when for operator in OPERATORS if operator.when}
    assert set(conditional.values()) == set(CONDITIONS) and set(conditional) <= MOVES


def test_a_category_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="Tile: there is no category 'move'"):
        Operator("Tile", "move unary", "measured on nothing")


# One entry is enough

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,1,4,4] x, int64[1] i) => (float[1,1,4,4] y, float[1,1,4,4] v)
<float s = {0.1}, float t = {0.12}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
{
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
    m = ReverseSequence <batch_axis = 0, time_axis = 3> (d, i)
    p = QuantizeLinear (m, t, z) e = DequantizeLinear (p, t, z)
    k = DequantizeLinear (w, sw, z) v = Conv (e, k)
    n = ReverseSequence <batch_axis = 0, time_axis = 3> (q, i) y = DequantizeLinear (n, s, z)
}"""
PROGRAM = f"""
import onnx, qdqgraph
from pathlib import Path
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.sites import sites
from qdqgraph.targets.target import Target
model = onnx.parser.parse_model('''{MODEL}''')
folder = str(Path(qdqgraph.__file__).parent.parent)
rules = qdqgraph.rules(installed=False)
assert all(folder in str(rule.file) for rule in rules)
print(*(f.code for f in qdqgraph.check(model, rules) if f.place in "mn"))
print("d" in sites(Graph(model)).wants)
print(*(layer.kind + " " + layer.precision for layer in forecast(Graph(model, target=Target.named("trt-8.6")), "g").layers if "ReverseSequence(m)" in layer.nodes))
"""


def run_with(folder: Path, entry: str) -> list[str]:
    """What PROGRAM prints, in a copy of the source tree whose table has one more line."""
    for part in ("qdqgraph", "rules"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    table = folder / "qdqgraph" / "operators.py"
    head, mark, tail = table.read_text(encoding="utf-8").partition("OPERATORS: tuple[Operator, ...] = (\n")
    table.write_text(f"{head}{mark}{entry}{tail}", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_a_new_data_movement_operator_is_one_line_of_the_table(tmp_path: Path) -> None:
    """Rules, the sites of a graph, forecasts and the legality of integers follow from the one line."""
    without = run_with(tmp_path / "without", "")
    assert without == ["", "False", "ReverseSequence INT8"]
    entry = '    Operator("ReverseSequence", "moves", "measured on nothing: a test"),\n'
    assert run_with(tmp_path / "with", entry) == ["QDQ103 QDQ414", "True", "Move INT8"]


# No second list


def lists(file: Path) -> Iterator[tuple[str, set[str]]]:
    """The operators that each display of constants of a Python file lists, with the name it is assigned to.

    A display is a set, tuple, list or dict, or several joined by |; "" where it has no name of its own.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    owners: dict[ast.AST, str] = {}
    for statement in ast.walk(tree):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            name = next((t.id for t in targets if isinstance(t, ast.Name)), "")
            owners.update((inner, name) for inner in ast.walk(statement))
    parts = {
        child for node in ast.walk(tree) if is_list(node) for child in ast.iter_child_nodes(node) if is_list(child)
    }
    for node in ast.walk(tree):
        if is_list(node) and node not in parts:
            yield owners.get(node, ""), constants(node) & NAMES


def is_list(node: ast.AST) -> bool:
    joined = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
    return joined or isinstance(node, (ast.Set, ast.Tuple, ast.List, ast.Dict))


def constants(node: ast.AST) -> set[str]:
    """The strings of a display, those of displays inside it included; what calls and comparisons hold left out."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("frozenset", "set"):
        return set().union(*map(constants, node.args))
    if not is_list(node):
        return set()
    children = node.keys if isinstance(node, ast.Dict) else ast.iter_child_nodes(node)
    return set().union(*(constants(child) for child in children if child is not None))


def test_no_second_list_of_operators_in_python() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for folder in ("qdqgraph", "rules"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            place = str(file.relative_to(ROOT))
            found.update(((place, name), ops) for name, ops in lists(file) if len(ops) > 2)
    assert {place: ops for place, ops in found.items() if place not in OWN} == {}, "name a category of the table"
    assert set(OWN) <= set(found), "an entry of OWN that is none any more"


def test_no_second_list_of_operators_in_text_rules() -> None:
    for file in sorted((ROOT / "rules").rglob("*.toml")):
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        named = [*data.get("ops", {}).values(), *(re.findall(r"\w+", text) for text in data.get("where", ()))]
        assert all(isinstance(ops, str) or len(set(ops) & NAMES) < 3 for ops in named), f"{file}: name a category"


@pytest.mark.parametrize(
    "text",
    [
        'def f(op):\n    return op in ("Relu", "Clip", "Erf")',
        'OPS = frozenset({"Relu", "Clip"}) | {"Erf"}',
        'OPS = {"Relu": 1, "Clip": 2, "Erf": 3}',
        'quiet = {"Relu"} | OTHERS | {"Clip"} | frozenset(["Erf"])',
    ],
)
def test_a_second_list_is_seen_in_every_form(tmp_path: Path, text: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(text)
    assert max(len(ops) for _, ops in lists(file)) == 3
