"""A tie's own `policy = "anchor:…"`: the anchor gives the scale, or the tie is refused."""

from pathlib import Path

import pytest

import qdqgraph
from qdqgraph import Options, RuleError
from qdqgraph.rulekit.text import TextRule
from tests.support.models import CONCAT, build, scales

RULE = """code = "MY101"
name = "joined"
summary = "S."
why = "W."
source = ["s"]
safety = "lossy"
[tie]
tensors = ["a", "c"]
policy = "anchor:%s"
max_bits_lost = 8
"""


def rule(tmp_path: Path, anchor: str) -> TextRule:
    file = tmp_path / "r.toml"
    file.write_text(RULE % anchor)
    return TextRule(file)


@pytest.mark.parametrize(("anchor", "scale"), [("a", 0.1), ("c", 0.11)])
def test_the_anchor_gives_the_scale(tmp_path: Path, anchor: str, scale: float) -> None:
    result = qdqgraph.fix(build(CONCAT), [rule(tmp_path, anchor)], Options())
    assert result.applied and all(scales(result.model)[site] == {scale} for site in ("a", "c"))


def test_an_anchor_outside_the_group_is_refused(tmp_path: Path) -> None:
    result = qdqgraph.fix(build(CONCAT), [rule(tmp_path, "x")], Options())
    assert not result.applied
    assert result.left[0].refused == "policy anchor:x: 'x' is not in the group, whose tensors are 'a', 'c'"


def test_an_anchor_that_the_model_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        RuleError, match=r"r\.toml: rule MY101: a Tie has the policy anchor:zz: the model has no tensor 'zz'"
    ):
        qdqgraph.fix(build(CONCAT), [rule(tmp_path, "zz")], Options())
