"""Captures in the names of a tie: one tie for each value in the graph."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph import Options, RuleError
from qdqgraph.rulekit.text import TextRule
from tests.support.models import build, scales

HEAD = """code = "MY101"
name = "my-tie"
summary = "Stages have several scales."
why = "TensorRT."
source = ["measured"]
safety = "lossy"
[tie]
"""


@pytest.fixture
def tied(tmp_path: Path) -> Callable[[str], TextRule]:
    def loaded(text: str) -> TextRule:
        (tmp_path / "rule.toml").write_text(HEAD + text)
        return TextRule(tmp_path / "rule.toml")

    return loaded


def stages() -> onnx.ModelProto:
    return build("""g (float[1,4,8,8] x) => (float[1,4,8,8] y1, float[1,4,8,8] z1, float[1,4,8,8] y2, float[1,4,8,8] z2) {
        stage1_a = Relu (x) stage1_b = Exp (x) stage2_a = Neg (x) stage2_b = Abs (x)
        y1 = t.conv4 (stage1_a, s1) z1 = t.conv4 (stage1_b, s2) y2 = t.conv4 (stage2_a, s3) z2 = t.conv4 (stage2_b, s4) }""")


def test_each_value_of_a_capture_is_a_tie_of_its_own(tied: Callable[[str], TextRule]) -> None:
    rule = tied('tensors = ["stage{N}_a", "stage{N}_b"]\n')
    fixed = scales(qdqgraph.fix(stages(), [rule], Options()).model)
    assert [sorted(fixed[t]) for t in ("stage1_a", "stage1_b", "stage2_a", "stage2_b")] == [
        [0.11], [0.11], [0.13], [0.13]]  # fmt: skip


def test_a_policy_may_name_a_capture(tied: Callable[[str], TextRule]) -> None:
    rule = tied('tensors = ["stage{N}_[ab]"]\npolicy = "anchor:stage{N}_a"\n')
    fixed = scales(qdqgraph.fix(stages(), [rule], Options(max_bits_lost=2)).model)
    assert (sorted(fixed["stage1_b"]), sorted(fixed["stage2_b"])) == ([0.1], [0.12])


def test_every_value_must_have_every_name_unless_it_may_be_absent(tied: Callable[[str], TextRule]) -> None:
    with pytest.raises(RuleError) as error:
        qdqgraph.fix(stages(), [tied('tensors = ["stage{N}_a",\n "stage{N}_c"]\n')], Options())
    assert "rule.toml:9: tensors 'stage{N}_c' as 'stage1_c' matches nothing in this model" in str(error.value)
    some = tied('tensors = ["stage{N}_a", "stage{N}_b", "stage{N}_c"]\nrequired = false\n')
    assert len(qdqgraph.fix(stages(), [some], Options()).applied) == 2


def test_a_capture_without_a_value_matches_nothing(tied: Callable[[str], TextRule]) -> None:
    with pytest.raises(RuleError, match=r"tensors 'block\{N\}' matches nothing in this model"):
        qdqgraph.fix(stages(), [tied('tensors = ["block{N}"]\n')], Options())


def test_captures_must_be_known_together(tied: Callable[[str], TextRule]) -> None:
    with pytest.raises(RuleError, match=r"rule.toml:7: no name of this tie contains all of \{M\}, \{N\}"):
        tied('tensors = ["stage{N}_a", "stage{M}_b"]\n')
