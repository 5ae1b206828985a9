"""Categories of the table of operators in text rules: which operators they name, and how mistakes are reported."""

import re
from pathlib import Path

import onnx
import pytest

from qdqgraph import RuleError
from qdqgraph.categories import CATEGORIES
from qdqgraph.operators import members
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.text import TextRule
from tests.support.models import build
from tests.support.paths import ROOT

HEAD = """code = "MY201"
name = "my-rule"
summary = "Something is wrong."
why = "TensorRT."
source = ["measured"]
safety = "manual"
"""


def load(folder: Path, text: str) -> TextRule:
    file = folder / "my_rule.toml"
    file.write_text(HEAD + text)
    return TextRule(file)


def places(rule: TextRule, model: onnx.ModelProto) -> list[str]:
    return [f.place for f in rule.find(Graph(model))]


CHAIN = build("g (float[4] x) => (float[4] y) { a = Relu (x) b = Identity (a) c = Softmax (b) y = Sigmoid (c) }")


@pytest.mark.parametrize(
    ("ops", "found"),
    [
        ('"@unary"', ["a", "y"]),
        ('["@unary"]', ["a", "y"]),
        ('["@moves", "Softmax"]', ["b", "c"]),
        ('["@moves", "@unary", "Identity"]', ["a", "b", "y"]),
    ],
)
def test_a_category_stands_for_its_operators_alone_or_among_others(tmp_path: Path, ops: str, found: list[str]) -> None:
    rule = load(tmp_path, f'pattern = "p (x) => (y) {{ y = Some (x) }}"\n[ops]\nSome = {ops}')
    assert places(rule, CHAIN) == found


def test_a_condition_takes_categories_among_operators(tmp_path: Path) -> None:
    rule = load(tmp_path, 'pattern = "p (x) => (y) { y = Relu (x) }"\nwhere = ["followed_by(y, Softmax, @moves)"]')
    assert places(rule, CHAIN) == ["a"]
    rule = load(tmp_path, 'pattern = "p (x) => (y) { y = Relu (x) }"\nwhere = ["followed_by(y, @unary)"]')
    assert places(rule, CHAIN) == []


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('[ops]\nSome = "@move"', 9, "there is no category '@move'; did you mean 'moves'? The categories: @weighted, "),
        ('[ops]\nSome = [\n  "Relu",\n  "@xyz"]', 11, "there is no category '@xyz'. The categories: @weighted, "),
        ('[ops]\nSome = "Relu"', 9, "ops Some is 'Relu'; write, for example, '@moves'"),
        ("[ops]\nSome = 3", 9, "ops Some must be a string or an array of strings"),
        ('where = ["made_by(y, @mov)"]', 8, "there is no category '@mov'; did you mean 'moves'?"),
    ],
)
def test_a_mistake_is_answered_with_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(RuleError) as error:
        load(tmp_path, f'pattern = "p (x) => (y) {{ y = Relu (x) }}"\n{text}')
    assert str(error.value).startswith(f"{tmp_path / 'my_rule.toml'}:{line}: {message}")


def test_the_reference_lists_every_category_with_all_its_operators() -> None:
    text = (ROOT / "docs" / "writing-rules.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `@(\w+)` \| (.*) \| (.*) \|$", text, re.MULTILINE)
    assert [row[:2] for row in rows] == list(CATEGORIES.items())
    assert {name: set(listed.split(", ")) for name, _, listed in rows} == {name: members(name) for name in CATEGORIES}
