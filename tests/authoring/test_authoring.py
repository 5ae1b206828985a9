"""What rule authors are told: why a rule is silent, which settings hold, what a rule's page shows."""

import re
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph import Options, RuleError
from qdqgraph.authoring.why import why
from qdqgraph.cli.main import main
from qdqgraph.cli.settings import Settings
from qdqgraph.report import pages
from qdqgraph.report.drawing import Drawing, lines
from qdqgraph.rulekit import Graph, catalog
from tests.support.models import build, scales
from tests.support.paths import ROOT

RULES = qdqgraph.rules()


def answer(text: str, code: str, at: str, **options: float) -> tuple[bool, str]:
    found = why(Graph(build(text)), catalog.find(RULES, code), at, RULES, Options(**options))  # type: ignore[arg-type]
    return found.speaks, "\n".join(found.lines)


# why


CONCAT = """g (float[1,4,8,8] x, float[1,4,8,8] t) => (float[1,4,8,8] y, float[1,4,8,8] v) {
    a = Relu (x) y = t.conv4 (a, s1) c = Concat <axis = 1> (a, t) v = t.conv8 (c, s2) }"""


def test_why_says_that_a_rule_speaks_and_what_it_would_do() -> None:
    speaks, text = answer(CONCAT, "QDQ101", "c")
    assert speaks and text.startswith(
        "QDQ101 speaks here: inputs and output of the Concat carry different scales: 0.1 ('a'), 0.11 ('c')"
    )
    assert answer(CONCAT, "QDQ101", "a") == (speaks, text), "a tied tensor is spoken of as well"


def test_why_says_that_the_guard_refused() -> None:
    speaks, text = answer(CONCAT, "QDQ101", "c", max_bits_lost=0.1)
    assert speaks and "refused: the scale of 'c', 0.11, would cost 0.14 bits at 'a'" in text


def test_why_says_that_a_tie_holds_already() -> None:
    assert answer(CONCAT.replace("s2", "s1"), "QDQ101", "c") == (
        True,
        "QDQ101 asks for one scale of 'a', 't', 'c'; they have it, or none of them has one: no finding",
    )


def test_why_names_the_condition_of_a_text_rule_that_failed() -> None:
    text = CONCAT.replace("v = t.conv8 (c, s2)", "m = ReduceMean <axes = [1]> (c) v = Add (m, x)")
    speaks, said = answer(text, "QDQ101", "c")
    assert not speaks
    assert said.splitlines() == [
        "QDQ101 finds nothing at 'c'",
        "the deepest partial match, 1 of 1 lines:",
        "  + y = Concat (xs)    is 'Concat(c)'",
        "stopped: `carries_int8(y)` does not hold: nothing behind 'c' takes INT8, and not everything in front of it is "
        "quantized",
    ]


def test_why_shows_the_deepest_partial_match() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) { p = t.pair (x, s1) r = Relu (p) y = t.conv4 (r, s1) }"""
    speaks, said = answer(text, "QDQ206", "p")
    assert not speaks and "the deepest partial match, 2 of 4 lines:" in said
    assert "  + d = DequantizeLinear (q, s, z)" in said and "  - again = QuantizeLinear (d, s, z)" in said
    assert (
        "stopped: no further QuantizeLinear reads 'p', where the pattern has again = QuantizeLinear (d, s, z)" in said
    )


def test_why_says_where_no_line_of_the_pattern_fits() -> None:
    speaks, said = answer(CONCAT, "QDQ102", "c")
    assert (
        not speaks and "'c' is made by Concat and read by QuantizeLinear; the pattern is\n    y = MaxPool (x)" in said
    )


def test_why_names_the_condition_of_a_python_rule_that_failed() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = t.conv4 (x, s1) g = Sigmoid (a) m = Mul (a, g) y = t.conv4 (m, s2) }"""
    speaks, said = answer(text, "QDQ204", "m")
    assert not speaks
    assert re.search(r"average_or_mul_unpaired\.py:\d+, the last line of find\(\) that speaks of it:", said)
    assert said.endswith(
        "    if not gating and node.op not in POOLS\n      not gating  is  True\n      node.op not in POOLS  is  True"
    )


def test_why_says_that_a_python_rule_never_comes_there() -> None:
    speaks, said = answer(CONCAT, "QDQ204", "c")
    assert not speaks and said.endswith("the rule never comes to this tensor: it looks at other operators or places")


def test_why_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(build(CONCAT), model)
    assert main(["why", "concat-scales-differ", str(model), "--at", "c"]) == 0
    assert main(["why", "QDQ102", str(model), "--at", "c"]) == 1
    capsys.readouterr()
    assert main(["why", "QDQ101", str(model), "--at", "cc"]) == 2
    assert "the model has no tensor or node 'cc'; did you mean 'c'?" in capsys.readouterr().err
    assert main(["why", "QDQ111", str(model), "--at", "c"]) == 2
    assert "there is no rule 'QDQ111'; did you mean 'QDQ" in capsys.readouterr().err


# Settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    onnx.save(build(CONCAT), tmp_path / "models" / "m.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(f'[project]\nname = "p"\n\n{text}')


def test_settings_select_ignore_and_add_rules(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "models/m.onnx"]) == 1
    assert "QDQ101" in capsys.readouterr().out
    written(project, '[tool.qdqgraph]\nignore = ["QDQ1"]\n')
    assert main(["check", "models/m.onnx"]) == 0
    assert main(["check", "models/m.onnx", "--no-config"]) == 1
    written(project, '[tool.qdqgraph]\nselect = ["QDQ4"]\nrules = ["my_rules"]\n')
    assert main(["check", "models/m.onnx"]) == 2
    (project / "my_rules").mkdir()
    assert main(["rules", "new", "my-rule", "--folder", "my_rules"]) == 0
    assert main(["check", "models/m.onnx"]) == 0
    assert main(["check", "models/m.onnx", "--select", "QDQ101"]) == 1
    capsys.readouterr()
    assert main(["rules", "list"]) == 0
    assert "MY201  exact   my-rule" in capsys.readouterr().out


def test_settings_for_one_model(project: Path) -> None:
    text = '[tool.qdqgraph]\nmax-bits-lost = 0.1\nonly = ["z"]\n[tool.qdqgraph.models."models/*.onnx"]\nmax-bits-lost = 2\nonly = ["c"]\n'
    written(project, text)
    own = Settings.near(project)
    assert own.of(project / "models/m.onnx") == {"max-bits-lost": 2, "only": ["z", "c"]}
    assert own.of(Path("models/m.onnx"))["max-bits-lost"] == 2
    assert own.of(project / "other.onnx") == {"max-bits-lost": 0.1, "only": ["z"]}
    assert main(["fix", "models/m.onnx", "-o", "out.onnx"]) == 0
    assert set(scales(onnx.load("out.onnx"))["a"]) == {0.11}


def test_the_command_line_stands_above_the_settings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(project, "[tool.qdqgraph]\nmax-bits-lost = 0.1\n")
    assert main(["check", "models/m.onnx"]) == 1
    assert "refused" in capsys.readouterr().out
    assert main(["check", "models/m.onnx", "--max-bits-lost", "1"]) == 1
    assert "refused" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[tool.qdqgraph]\nignor = ["QDQ1"]\n', 5, "unknown key 'ignor'; did you mean 'ignore'?"),
        ('[tool.qdqgraph]\nignore = "QDQ1"\n', 5, "ignore must be an array of strings"),
        ('[tool.qdqgraph]\nmax-bits-lost = "one"\n', 5, "max-bits-lost must be a number"),
        (
            '[tool.qdqgraph.models."a.onnx"]\nrules = ["x"]\n',
            5,
            "unknown key 'rules'; the keys are also, exact, except",
        ),
    ],
)
def test_wrong_settings_are_answered_with_file_and_line(project: Path, text: str, line: int, said: str) -> None:
    written(project, text)
    with pytest.raises(RuleError) as error:
        Settings.near(project)
    assert f"pyproject.toml:{line}: " in str(error.value) and said in str(error.value)


def test_a_pyproject_without_the_table_is_passed_over(project: Path) -> None:
    written(project, '[tool.qdqgraph]\nignore = ["QDQ1"]\n')
    inner = project / "models"
    written(inner, "")
    assert Settings.near(inner).general == {"ignore": ["QDQ1"]}


def test_settings_of_a_named_file(project: Path) -> None:
    (project / "ci.toml").write_text('[tool.qdqgraph]\nignore = ["QDQ1"]\n')
    assert main(["check", "models/m.onnx", "--config", "ci.toml"]) == 0
    assert main(["check", "models/m.onnx", "--config", "missing.toml"]) == 2


# Pages


def test_the_pages_in_docs_are_those_of_the_rules() -> None:
    """Mend a difference with: qdqgraph rules pages -o docs/rules"""
    folder = ROOT / "docs" / "rules"
    made = pages.pages(catalog.load(installed=False))
    assert {p.name for p in folder.iterdir()} == set(made)
    for name, content in made.items():
        assert (folder / name).read_text(encoding="utf-8") == content, name


def test_an_example_is_drawn_as_chains() -> None:
    graph = Graph(
        build(
            CONCAT.replace("t.conv4 (a, s1)", "t.pair (a, s1)")
            .replace("t.conv8 (c, s2)", "Sigmoid (c)")
            .replace("float[1,4,8,8] v", "float[1,8,8,8] v")
        )
    )
    assert lines(Drawing.of(graph)) == ["x ─ Relu ─▶ a", "a ─ Q 0.1 ─ DQ 0.1 ─▶ y", "a, t ─ Concat ─ Sigmoid ─▶ v"]


def test_pages_show_one_colour_a_scale() -> None:
    made = pages.pages([catalog.find(RULES, "QDQ101")])
    picture = made["QDQ101-1.svg"]
    assert len(set(re.findall(r'fill="(#\w+)" stroke="#666666"', picture))) == 3, "two scales, and what has none"
    assert "![before and after](QDQ101-1.svg)" in made["QDQ101.md"] and "[QDQ101](QDQ101.md)" in made["README.md"]
