"""Settings in pyproject.toml: which hold for a model, what the command line changes, how mistakes are answered."""

from pathlib import Path

import onnx
import pytest

from qdqgraph import RuleError
from qdqgraph.cli.main import main
from qdqgraph.cli.settings import Settings
from tests.support.models import CONCAT, build, scales


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
    assert "1 finding, 0 repairable" in capsys.readouterr().out
    assert main(["check", "models/m.onnx", "--max-bits-lost", "1"]) == 1
    assert "1 finding, 0 repairable" not in capsys.readouterr().out


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
        ('[tool.qdqgraph]\nrules = [\n  "missing"]\n', 6, "there is no rule file or folder"),
        ('[tool.qdqgraph]\npolicy = "biggest"\n', 5, "unknown policy 'biggest': write max"),
        ('[tool.qdqgraph.models."a.onnx"]\npolicy = "fixed:x"\n', 5, "policy fixed:x"),
        ('[tool.qdqgraph]\ntarget = "trt-9"\n', 5, "target is 'trt-9'; write one of"),
        ('[tool.qdqgraph]\nonly = ["a",\n "b[0"]\n', 6, "'b[0' is not a glob: '[' begins a set and there is no ']'"),
        ('[tool.qdqgraph.models."[ab.onnx"]\n', 4, "'[ab.onnx' is not a glob"),
        ('[tool.qdqgraph.models."./a.onnx"]\n', 4, "'./a.onnx' matches no model: write a path below the folder"),
        ("[tool.qdqgraph]\nignore = [\n", 6, "this is not valid TOML"),
    ],
)
def test_wrong_settings_are_answered_with_file_and_line(project: Path, text: str, line: int, said: str) -> None:
    written(project, text)
    with pytest.raises(RuleError) as error:
        Settings.near(project)
    assert f"pyproject.toml:{line}: " in str(error.value) and said in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[tool.qdqgraph]\nignore = ["QDQ1",\n  "QDQ999"]\n', 6),
        ('[tool.qdqgraph]\nselect = ["QDQ999"]\n', 5),
        ('[tool.qdqgraph]\nalso = ["QDQ999"]\n', 5),
        ('[tool.qdqgraph]\nignore = ["QDQ1"]\n[tool.qdqgraph.models."models/*"]\nignore = ["QDQ999"]\n', 7),
    ],
)
def test_an_unknown_code_in_settings_has_file_and_line(
    project: Path, text: str, line: int, capsys: pytest.CaptureFixture[str]
) -> None:
    written(project, text)
    assert main(["check", "models/m.onnx"]) == 2
    assert f"pyproject.toml:{line}: no rule matches 'QDQ999'" in capsys.readouterr().err
    assert main(["check", "models/m.onnx", "--no-config"]) == 1
    assert main(["check", "models/m.onnx", "--select", "QDQ999"]) == 2
    assert "pyproject.toml" not in capsys.readouterr().err or "also" in text


def test_a_pyproject_without_the_table_is_passed_over(project: Path) -> None:
    written(project, '[tool.qdqgraph]\nignore = ["QDQ1"]\n')
    inner = project / "models"
    written(inner, "")
    assert Settings.near(inner).general == {"ignore": ["QDQ1"]}


def test_settings_of_a_named_file(project: Path) -> None:
    (project / "ci.toml").write_text('[tool.qdqgraph]\nignore = ["QDQ1"]\n')
    assert main(["check", "models/m.onnx", "--config", "ci.toml"]) == 0
    assert main(["check", "models/m.onnx", "--config", "missing.toml"]) == 2
