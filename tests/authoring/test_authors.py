"""Where authors are: new rules, helper modules, `rules test` and the plugin of pytest."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.model.text import parse
from qdqgraph.rulekit import Graph, catalog
from qdqgraph.rulekit.text import TextRule
from tests.support.verdicts import BEFORE, SILENT, faults


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["text", "python"])
def test_a_new_rule_passes_and_finds_something(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "new", "identity-behind-pair", f"--{kind}"]) == 0
    (file,) = folder.iterdir()
    assert capsys.readouterr().out.startswith(f"{file.name}: edit it, then run: qdqgraph rules test {file.name}")
    assert main(["rules", "test", "."]) == 0
    assert capsys.readouterr().out == "3 of 3 checks passed\n"
    assert main(["rules", "new", "identity-behind-pair", f"--{kind}"]) == 2
    assert f"{file.name} exists" in capsys.readouterr().err
    assert main(["rules", "new", "second-one", "--python"]) == 0
    assert {r.code for r in catalog.load(["."], builtin=False)} == {"MY201", "MY202"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Not Kebab"], "'Not Kebab' is not a valid rule name"),
        (["good-name", "--code", "X1"], "'X1' is not a valid rule code"),
        (["good-name", "--code", "QDQ101"], "code QDQ101 is taken by concat-scales-differ"),
        (["repeated-pair"], "the name 'repeated-pair' is taken by QDQ206"),
    ],
)
def test_a_new_rule_needs_a_name_and_a_code(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rules", "new", *arguments]) == 2
    assert said in capsys.readouterr().err and not list(folder.iterdir())


def test_a_new_rule_makes_its_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "new", "my-rule", "--folder", "mine/rules"]) == 0
    assert (folder / "mine/rules/my_rule.toml").is_file()
    assert main(["rules", "new", "other-rule", "--folder", "mine/rules/my_rule.toml"]) == 2
    assert "mine/rules/my_rule.toml: the folder cannot be created" in capsys.readouterr().err


def test_a_missing_finding_of_a_text_rule_shows_the_deepest_partial_match(
    folder: Path,
) -> None:
    text = """code = "MY201"
name = "my-rule"
summary = "A pair before a Relu."
why = "TensorRT."
source = ["measured"]
safety = "manual"
pattern = "pattern (x, s, z) => (y) { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Relu (d) }"
WHERE
[[example]]
title = "one"
before = '''BEFORE'''
[[counterexample]]
title = "none"
model = '''<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg (x) }'''
"""
    model = SILENT.replace("r = Relu (d)", "r = Exp (d)")
    partial = ["2 of 3 lines:", "  + q = ", "  + d = ", "  - y = Relu (d)", "stopped: no further Relu reads 'd'"]
    whole = ["3 of 3 lines:", "  + y = Relu", "stopped: `graph_output(y)` does not hold"]
    for written, where, before, lines in (
        (text, "", model, partial),
        (text, 'where = ["graph_output(y)"]', SILENT, whole),
        (
            re.sub('"pattern .*"', '"pattern (x) => (y) { y = Tanh (x) }"', text),
            "",
            model,
            ["the model has none of Tanh"],
        ),
    ):
        (folder / "my_rule.toml").write_text(written.replace("WHERE", where).replace("BEFORE", before))
        (fault, *_) = faults(TextRule(folder / "my_rule.toml"))
        assert fault.startswith("missing: the rule finds nothing\n")
        assert [line for line in lines if line not in fault] == []


HELPERS = {
    "one_rule.py": "from ._helpers import OPS\n",
    "two_rule.py": "from . import _helpers\nOPS = _helpers.OPS\n",
    "_helpers.py": "from ._more import OPS\n",
    "_more.py": 'OPS = ("Identity",)\n',
}
RULE = '''
from collections.abc import Iterator
from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety

class Own(Rule):
    """An Identity.

    Why: measured.
    Source: measured
    """

    code, name, safety = "CODE", "NAME", Safety.MANUAL
    examples = [Example("one", BEFORE), Counterexample("none", SILENT)]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes(*OPS):
            yield self.finding(node, "an Identity")
'''


def _with_helpers(folder: Path) -> None:
    folder.mkdir()
    for number, (name, text) in enumerate(HELPERS.items(), start=201):
        body = RULE.replace("CODE", f"MY{number}").replace("NAME", name.split("_")[0]) if name[0] != "_" else ""
        body = body.replace("BEFORE", repr(BEFORE)).replace("SILENT", repr(SILENT.replace("Identity", "Neg")))
        (folder / name).write_text(text + body)


def test_rules_of_a_folder_share_helper_modules(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _with_helpers(folder / "a")
    path = list(sys.path)
    assert main(["rules", "test", "a"]) == 0
    assert capsys.readouterr().out == "6 of 6 checks passed\n"
    assert main(["rules", "test", "a/one_rule.py"]) == 0
    assert sys.path == path and "_helpers" not in sys.modules
    _with_helpers(folder / "b")  # another folder has a helper of the same name
    (folder / "b/_more.py").write_text('OPS = ("Neg",)\n')
    own = {rule.code: rule for rule in catalog.load(["a"], builtin=False)}["MY201"]
    other = {rule.code: rule for rule in catalog.load(["b"], builtin=False)}["MY201"]
    graph = Graph(parse(BEFORE))
    assert (len(list(own.find(graph))), len(list(other.find(graph)))) == (1, 0)
    (folder / "a/_more.py").write_text('OPS = ("Exp",)\n')  # a helper that changes is read again
    assert not list(catalog.load(["a"], builtin=False)[0].find(graph))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("_helpers.py", "import torch\nOPS = ()\n", "wrong: a rule may import `qdqgraph.rulekit`, numpy, the standard"),
        ("_helpers.py", "OPS = 1 / 0\n", "_helpers.py:1: the rule file does not load: ZeroDivisionError"),
        ("_helpers.py", "OPS = (\n", "_helpers.py:1: the rule file does not load: SyntaxError"),
        ("_helpers.py", "", "one_rule.py:1: the rule file does not load: ImportError: cannot import name 'OPS' from '._helpers'"),
        ("_helpers.py", "import _more\n", "No module named '_more'; for a module beside the rule, write: from ._more import"),
        ("_more.py", None, "_helpers.py:1: the rule file does not load: ModuleNotFoundError: No module named '._more'"),
    ],
)  # fmt: skip
def test_a_helper_that_does_not_load_is_named_with_its_line(
    folder: Path, file: str, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "torch" in str(text):
        pytest.importorskip("torch")
    _with_helpers(folder / "a")
    if text is None:
        (folder / "a" / file).unlink()
    else:
        (folder / "a" / file).write_text(text)
    assert main(["rules", "test", "a"]) in (1, 2)
    output = capsys.readouterr()
    assert said in " ".join((output.out + output.err).split())


def test_rules_test_shows_file_line_and_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "new", "my-rule"]) == 0
    file = folder / "my_rule.toml"
    file.write_text(file.read_text().replace("y = Conv (d, k)", "r = Relu (d)\n    y = Conv (r, k)"))
    capsys.readouterr()
    assert main(["rules", "test", "my_rule.toml"]) == 1
    out = capsys.readouterr().out
    line = file.read_text().splitlines().index("[[example]]") + 1
    assert out.startswith(
        f"my_rule.toml:{line}: MY201 between a pair and a convolution: wrong: the repair differs from `after`"
    )
    assert "\n-%" in out and "Relu (%" in out and out.endswith("2 of 3 checks passed\n")


def test_the_pytest_plugin_runs_the_same_checks(folder: Path) -> None:
    assert main(["rules", "new", "my-rule"]) == 0
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "pytest_qdqgraph",
        "--qdqgraph-rules",
        "my_rule.toml",
    ]

    def run() -> subprocess.CompletedProcess[str]:
        root = str(Path(qdqgraph.__file__).parent.parent)
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": root, "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )

    assert "3 passed" in (passed := run()).stdout and passed.returncode == 0, passed.stdout
    file = folder / "my_rule.toml"
    file.write_text(file.read_text().replace("Relu (d)", "Identity (d)"))
    failed = run()
    assert failed.returncode == 1 and "1 failed, 2 passed" in failed.stdout and "noisy: " in failed.stdout
    file.write_text("code = 3")
    assert "my_rule.toml:1: unknown" not in (broken := run()).stderr and broken.returncode == 4
    assert "my_rule.toml:1: the file lacks 'name'" in broken.stderr


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    code = "import sys, pytest_qdqgraph; print([m for m in ('onnx', 'qdqgraph', 'numpy') if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(qdqgraph.__file__).parent.parent,
    )
    assert run.stdout.strip() == "[]"
