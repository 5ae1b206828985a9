"""The numeric check after a repair: it runs the models, and stops where a rule's promise does not hold."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph import Finding, RepairError, Safety
from qdqgraph.repair.rounds import fix
from qdqgraph.rulekit import Graph, Rewire, Rule
from qdqgraph.verify.verification import verify
from tests.support.models import CONCAT, build

pytest.importorskip("onnxruntime")


class Doubles(Rule):
    """Claims that a node can be left out though that changes the numbers."""

    code, name, safety = "MY201", "doubles", Safety.EXACT

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Add"):
            source = node.inputs[0].name
            readers = [r.key for r in graph.readers(node.outputs[0].name)]
            if readers:
                yield self.finding(node, "x + x", edits=[Rewire(reader, source) for reader in readers])


def test_a_repair_is_compared_on_every_output() -> None:
    model = build(CONCAT)
    found = verify(model, qdqgraph.fix(model), Path())
    assert found.samples == 1 and not found.data and not found.note
    assert set(found.outputs) == {"y", "v"} and all(a.sqnr > 20 for a in found.outputs.values())


def test_an_exact_repair_that_changes_an_output_stops_the_run() -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu (x) b = Add (a, a) y = t.conv4 (b, s1) }")
    with pytest.raises(RepairError, match=r"repairs declared bit-exact \(MY201\) change the outputs y \("):
        verify(model, fix(model, [Doubles()]), Path())


def test_a_model_that_onnxruntime_cannot_run_is_left_out_with_the_reason() -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu (x) y = t.conv4 (a, s1) }")
    model.graph.node.append(onnx.helper.make_node("Mystery", ["y"], ["m"], domain="custom"))
    model.opset_import.append(onnx.helper.make_opsetid("custom", 1))
    found = verify(model, fix(model, qdqgraph.rules()), Path())
    assert not found.outputs and "onnxruntime cannot run the model" in found.note
