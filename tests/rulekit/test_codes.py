"""codes.lock: a code is given once, follows a rule that is renamed, and is never given again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import qdqgraph
from qdqgraph import Finding
from qdqgraph.cli.main import main
from qdqgraph.rulekit import Graph, Rule, catalog
from qdqgraph.rulekit.codes import Lock


class Locked(Rule):
    """A rule that the lock lists."""

    code, name = "MY201", "identity-behind-pair"

    def find(self, graph: Graph) -> Iterator[Finding]:
        return iter(())


class Unlocked(Locked):
    """Another, which it does not list."""

    code = "MY203"


def test_every_built_in_code_is_locked() -> None:
    lock = Lock.read(catalog.builtin_folder() / "codes.lock")
    assert list(lock.differences(catalog.load(installed=False))) == []


def test_the_lock_says_which_line_is_missing_or_stale(tmp_path: Path) -> None:
    path = tmp_path / "codes.lock"
    path.write_text("MY201 identity-behind-pair active\nMY202 gone active  # a comment\n")
    assert list(Lock.read(path).differences([Unlocked(), Locked()])) == [
        "codes.lock does not list MY203 identity-behind-pair: add the line 'MY203 identity-behind-pair active'",
        "codes.lock lists MY202 gone, which no longer exists: replace active by retired or now CODE",
    ]
    path.write_text("MY201 a-name alive\n")
    with pytest.raises(qdqgraph.RuleError, match=r"codes\.lock:1: 'MY201 a-name alive': write CODE NAME active"):
        Lock.read(path)


def test_a_renamed_rule_is_still_found_and_a_retired_code_is_never_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rules", "new", "my-rule"]) == 0
    (tmp_path / "codes.lock").write_text("MY199 old-name now MY201\nMY201 my-rule active\n")
    capsys.readouterr()
    for name in ("MY199", "old-name", "my199"):
        assert main(["explain", name, "--rules", "."]) == 0
        assert capsys.readouterr().out.startswith("MY201 my-rule (exact)")
    rules, moved = catalog.load(["."]), catalog.redirects(["."])
    assert [r.code for r in catalog.select(rules, ["MY199"], [], moved)] == ["MY201"]
    assert Lock.read(tmp_path / "codes.lock").gone == {"MY199"}
