"""Each kind of proposal is held to its label: in the tests of a rule, and in `fix`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import qdqgraph
from qdqgraph import Finding, Options, RepairError, Safety
from qdqgraph.authoring import testing
from qdqgraph.cli.main import main
from qdqgraph.model.text import parse
from qdqgraph.repair.plan import Plan
from qdqgraph.rulekit import (
    Constant,
    Counterexample,
    Example,
    Graph,
    PlacePair,
    Proposal,
    Rewire,
    Rule,
    SetPair,
    Tie,
    key,
    make_node,
    pairs,
    replace,
)

HEAD = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,1,4,4] x) => (float[1,1,4,4] y)
<float s = {0.1}, float t = {0.11}, int8 z = {0}, float[1,1,1,1] w = {0.5}>
{
    r = Relu (x) q = QuantizeLinear (r, s, z) d = DequantizeLinear (q, s, z)
    %s
}"""
SILENT = HEAD % "y = Sigmoid (d)"
Propose = Callable[[Graph], tuple[list[Proposal], Tie | None]]


def tie(graph: Graph) -> tuple[list[Proposal], Tie | None]:
    return [], Tie(("r", "f")) if graph.producer("f") is not None else None


def place(graph: Graph) -> tuple[list[Proposal], Tie | None]:
    """A second rounding, where there was none."""
    return [PlacePair("f", tuple(r.key for r in graph.readers("f") if r.node.op == "Sigmoid"), like="r")], None


def graft(graph: Graph) -> tuple[list[Proposal], Tie | None]:
    return [replace([node], [make_node("Tanh", [node.inputs[0].name], key(node))]) for node in graph.nodes("Erf")], None


def pair(graph: Graph) -> tuple[list[Proposal], Tie | None]:
    (found,) = (p for p in pairs(graph) if p.site == "f")
    new = Constant.of(np.asarray(0.5, np.float32))
    return [SetPair(tuple(map(key, found.nodes)), new, Constant.of(np.asarray(0, np.int8)))], None


def rewire(graph: Graph) -> tuple[list[Proposal], Tie | None]:
    return [Rewire(r.key, "r") for r in graph.readers("d")], None


TWO = (
    HEAD
    % "f = Flatten <axis = 2> (d) u = QuantizeLinear (f, t, z) v = DequantizeLinear (u, t, z) g = Reshape (v, k) y = Abs (g)"
)
TWO = TWO.replace("<float s", "<int64[4] k = {1, 1, 4, 4}, float s")
KINDS: dict[str, tuple[Propose, str, str]] = {
    "tie": (tie, TWO, TWO.replace("QuantizeLinear (r, s, z)", "QuantizeLinear (r, t, z)").replace("(q, s, z)", "(q, t, z)")),
    "placement": (
        place,
        HEAD % "f = Mul (d, d) y = Sigmoid (f)",
        HEAD % "f = Mul (d, d) u = QuantizeLinear (f, s, z) v = DequantizeLinear (u, s, z) y = Sigmoid (v)",
    ),
    "graft": (graft, HEAD % "y = Erf (d)", HEAD % "y = Tanh (d)"),
    "pair": (pair, TWO, TWO.replace("t = {0.11}", "t = {0.5}")),
    "rewire": (rewire, HEAD % "y = Erf (d)", (HEAD % "y = Erf (r)").replace("q = QuantizeLinear (r, s, z) d = DequantizeLinear (q, s, z)", "")),
}  # fmt: skip


def labelled(kind: str, safety: Safety) -> Rule:
    propose, before, after = KINDS[kind]

    class Sabotage(Rule):
        """A repair that changes outputs.

        Why: a test.
        Source: a test.
        """

        code, name = "MY201", "sabotage"
        examples = [Example("a", before, after), Counterexample("none", SILENT)]
        file = Path("sabotage.toml")

        def find(self, graph: Graph) -> Iterator[Finding]:
            wanted = {"tie": "f", "placement": "f", "pair": "f"}.get(kind)
            if wanted and graph.producer(wanted) is None:
                return
            if kind == "pair" and any(p.site == "f" and p.value == 0.5 for p in pairs(graph)):
                return
            if kind in ("graft", "rewire") and not graph.nodes("Erf"):
                return
            edits, tied = propose(graph)
            if tied or any(not isinstance(e, PlacePair) or e.readers for e in edits):
                at = graph.producer(wanted or "y")
                assert at is not None
                yield self.finding(at, "changes outputs", edits=edits, tie=tied)

    Sabotage.safety = safety
    return Sabotage()


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_exact_label_is_run(kind: str) -> None:
    faults = [v.fault for v in testing.verdicts(labelled(kind, Safety.EXACT)) if v.fault]
    assert len(faults) == 1 and faults[0].startswith("not exact: "), faults


@pytest.mark.parametrize("kind", ["tie", "placement"])
def test_a_lossy_label_passes(kind: str) -> None:
    assert [v.fault for v in testing.verdicts(labelled(kind, Safety.LOSSY)) if v.fault] == []


@pytest.mark.parametrize("kind", list(KINDS))
def test_fix_keeps_the_promise_of_a_label(kind: str) -> None:
    """Either it refuses to write, or it does not apply the repair."""
    rule, model = labelled(kind, Safety.EXACT), parse(KINDS[kind][1])
    if kind == "tie":
        result = qdqgraph.fix(model, [rule], Options(also=("MY201",)))
        assert not result.applied and "labels this tie exact, but it changes a scale" in result.left[0].refused
        return
    with pytest.raises(RepairError, match=r"repairs declared bit-exact \(MY201\) change the outputs y"):
        qdqgraph.fix(model, [rule], Options(also=("MY201",)), numerics=True)


def test_a_repair_that_cannot_be_undone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = labelled("tie", Safety.LOSSY)
    monkeypatch.setattr(Plan, "inverse", lambda self: self)
    assert next(v.fault for v in testing.verdicts(rule) if v.fault).startswith("not undone: ")


def test_rules_test_compares_the_lock_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rules", "new", "my-rule"]) == 0
    (tmp_path / "codes.lock").write_text("MY201 my-rule active\n")
    assert main(["rules", "test", "."]) == 0
    (tmp_path / "codes.lock").write_text("MY202 other active\n")
    capsys.readouterr()
    assert main(["rules", "test", "."]) == 1
    out = capsys.readouterr().out
    assert "codes.lock: codes.lock: wrong: codes.lock does not list MY201 my-rule: add the line" in out
    assert "codes.lock lists MY202 other, which no longer exists" in out
