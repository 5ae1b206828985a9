"""Rules that a settings file lists: text rules are data, Python rules need a permission."""

from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import main
from tests.support.models import CONCAT, build


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A checkout with a text rule and two Python rules, and a settings file that lists their folder."""
    folder = tmp_path / "checkout"
    (folder / ".git").mkdir(parents=True)
    (folder / "mine").mkdir()
    monkeypatch.chdir(folder)
    onnx.save(build(CONCAT), folder / "m.onnx")
    assert main(["rules", "new", "first-one", "--text", "--folder", "mine"]) == 0
    for name in ("second-one", "third-one"):
        assert main(["rules", "new", name, "--python", "--folder", "mine"]) == 0
    (folder / "mine" / "third_one_rule.py").rename(folder / "mine" / "third.py")
    for file in (folder / "mine").glob("*.py"):
        file.write_text(file.read_text() + f"\nopen({str(tmp_path / file.name)!r}, 'w').close()\n")
    (folder / "pyproject.toml").write_text('[tool.qdqgraph]\nrules = ["mine"]\n')
    capsys.readouterr()
    return folder


def codes(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[str], str]:
    assert main(["rules", "list", *arguments]) == 0
    said = capsys.readouterr()
    return [code for code in ("MY201", "MY202", "MY203") if code in said.out], said.err


def test_python_rules_of_a_settings_file_do_not_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, said = codes(capsys)
    assert found == ["MY201"] and not list(project.parent.glob("*.py"))
    assert "second_one_rule.py is not loaded: a Python rule runs code; add --allow-python-rules" in said
    assert main(["check", "m.onnx"]) == 1 and not list(project.parent.glob("*.py"))


def test_they_run_with_the_permission_if_they_are_named_as_rules(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, said = codes(capsys, "--allow-python-rules")
    assert found == ["MY201", "MY202"] and [f.name for f in project.parent.glob("*.py")] == ["second_one_rule.py"]
    assert "third.py is not loaded: name it *_rule.py, or list the file itself" in said


def test_a_file_that_is_listed_needs_the_permission_as_well(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").write_text('[tool.qdqgraph]\nrules = ["mine/third.py"]\n')
    assert main(["check", "m.onnx"]) == 2
    assert "third.py is a Python rule, which runs code" in capsys.readouterr().err
    assert codes(capsys, "--allow-python-rules")[0] == ["MY203"]


def test_a_settings_file_of_the_user_outside_the_checkout_is_a_permission(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "pyproject.toml").write_text(f'[tool.qdqgraph]\nrules = ["{project / "mine"}"]\n')
    assert codes(capsys, "--config", str(own / "pyproject.toml"))[0] == ["MY201", "MY202"]
    assert codes(capsys, "--config", str(project / "pyproject.toml"))[0] == ["MY201"]


def test_rules_on_the_command_line_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert codes(capsys, "--no-config", "--rules", "mine")[0] == ["MY201", "MY202", "MY203"]


def test_select_on_the_command_line_beats_ignore(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").write_text('[tool.qdqgraph.models."*.onnx"]\nignore = ["QDQ101"]\n')
    assert main(["check", "m.onnx", "--select", "QDQ101"]) == 1
    assert "QDQ101" in capsys.readouterr().out
    assert main(["check", "m.onnx"]) in (0, 1)
    assert "QDQ101" not in capsys.readouterr().out


def test_names_and_retired_codes_are_taken(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").unlink()
    file = project / "mine" / "first_one.toml"
    (project / "mine" / "codes.lock").write_text("MY201 first-one retired\n")
    assert main(["rules", "list", "--rules", "mine"]) == 2
    assert "code MY201 is retired in mine/codes.lock; give the rule a new one" in capsys.readouterr().err
    (project / "mine" / "codes.lock").unlink()
    file.write_text(file.read_text().replace('"first-one"', '"second-one"'))
    assert main(["rules", "list", "--rules", "mine"]) == 2
    assert "the name 'second-one' is taken by MY201" in capsys.readouterr().err


def test_a_folder_that_both_name_is_loaded_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert codes(capsys, "--rules", "mine")[0] == ["MY201", "MY202", "MY203"]
    assert codes(capsys, "--rules", "mine/first_one.toml")[0] == ["MY201"]
