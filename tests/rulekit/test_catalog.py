"""The catalog: rules that come with an installed package."""

from pathlib import Path

import pytest

import qdqgraph
from qdqgraph.authoring.scaffold import scaffold


def test_an_installed_rule_pack_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = tmp_path / "some_pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    info = tmp_path / "some_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qdqgraph.rules]\nsome = some_pack\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(qdqgraph.RuleError, match="some_pack contains no rule"):
        qdqgraph.rules()
    file, text = scaffold("my-rule", "text", pack, "", ())
    file.write_text(text)
    assert [r.file for r in qdqgraph.rules() if r.code == "MY201"] == [pack / "my_rule.toml"]
    assert "MY201" not in {r.code for r in qdqgraph.rules(installed=False)}
    (info / "entry_points.txt").write_text("[qdqgraph.rules]\nsome = no_such_package\n")
    with pytest.raises(
        qdqgraph.RuleError, match="the rule pack 'some' names 'no_such_package', which is not a package"
    ):
        qdqgraph.rules()
