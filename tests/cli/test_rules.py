"""`explain` and `rules`; rule files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdqgraph.cli.main import main


def test_explain_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "qdq101"]) == 0
    text = capsys.readouterr().out
    assert "Why: TensorRT moves the Q after a Concat" in text and "c = Concat <axis = 1> (da, b)" in text
    assert main(["explain", "QDQ999"]) == 2
    assert main(["rules", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 10


RULE = '''
from qdqgraph.rulekit import Counterexample, Example, Rule, Safety

class Mine(Rule):
    """Something."""
    code, name, safety = "{code}", "mine", Safety.MANUAL
    examples = [Example("a", "x"), Counterexample("b", "y")]
    def find(self, graph):
        {body}
'''


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_here", "does not load: ModuleNotFoundError"),
        ("x = 1", "contains no rule"),
        (RULE.format(code="QDQ101", body="yield"), "code QDQ101 is taken by"),
        (RULE.format(code="ABC1", body="yield"), "write letters, a band from 1 to 4 and two digits"),
        (RULE.format(code="QDQ190", body="raise KeyError('oops')"), "mine.py:9: KeyError: 'oops'"),
        (
            RULE.format(code="QDQ190", body="yield").replace("Safety.MANUAL", "'manual'"),
            "safety is 'manual'; write one of Safety.EXACT",
        ),
    ],
)
def test_bad_rule_files_stop_the_run(
    text: str, said: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "mine.py"
    rules.write_text(text)
    assert main(["check", str(model), "--rules", str(rules)]) == 2
    assert said in capsys.readouterr().err
