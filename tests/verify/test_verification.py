"""The numeric check after a repair: it runs the models, and stops where a rule's promise does not hold."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import Finding, RepairError, Safety
from qdqgraph.model.runtime import run
from qdqgraph.repair.rounds import fix
from qdqgraph.rulekit import Graph, Rewire, Rule, key, pairs
from qdqgraph.verify.comparison import compared
from qdqgraph.verify.floats import float_reference
from qdqgraph.verify.kept import Kept
from qdqgraph.verify.verification import Verification, verify
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
    assert not found.outputs and found.skipped.startswith("onnxruntime cannot run the model")
    assert found.warning == f"the repaired model was not compared with the original: {found.skipped}"


def check(text: str, opset: int = 17) -> Verification:
    """The numeric check of the repair of a model."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    onnx.checker.check_model(model, full_check=True)
    return verify(model, fix(model, qdqgraph.rules()), Path(), rules=qdqgraph.rules())


def test_an_empty_output_compares_nothing() -> None:
    """A Resize by 0.996 in every dimension: the batch of 1 becomes 0 elements."""
    found = check("""g (float[1,2,8,8] x) => (float[N,C,H,W] y)
        <float s = {0.1}, int8 z = {0}, float[4] f = {0.996, 0.996, 2, 2}>
        { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Resize <mode = "nearest"> (d, , f) }""")
    assert found.outputs["y"].caveat == "empty"
    assert found.warning.startswith("the numeric check shows nothing: every output is empty; give")


def test_an_output_without_an_input_and_a_constant_one_are_told_apart() -> None:
    found = check("""g (float[1,4] x) => (float[1,4] y, float[1,4] c, float[4] k)
        <float s = {0.1}, int8 z = {0}, float zero = {0}, float[4] one = {1, 2, 3, 4}>
        { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) c = Mul (y, zero) k = Relu (one) }""")
    said = {name: agreement.caveat for name, agreement in found.outputs.items()}
    assert said == {"y": "", "c": "all values are 0, compares little", "k": "independent of the inputs"}
    assert not found.warning, "one output shows something"


DYNAMIC = """g (float[1,8] x) => (float[1,4] y) <uint8[8,4] w = {%s}, uint8 wz = {128}, float ws = {0.01}> {
    big = Mul (x, x) q, s, z = DynamicQuantizeLinear (big) m = MatMulInteger (q, w, z, wz)
    f = Cast <to = 1> (m) t = Mul (s, ws) y = Mul (f, t) }"""


def test_both_sides_are_compared_with_float_where_they_disagree() -> None:
    """One value of 1000 makes a dynamic step of 4, which rounds all others to zero; the repair computes in float."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> {DYNAMIC % ", ".join(str(128 + i % 7) for i in range(32))}'
    )
    data = [{"x": np.ones((1, 8), np.float32)}]
    data[0]["x"][0, 0] = 31.6
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[0] = 128  # the large value is multiplied by zero
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    found = verify(model, fix(model, qdqgraph.rules()), Path(), data=data, rules=qdqgraph.rules())
    assert found.outputs["y"].sqnr < 30
    assert found.floats["y"].original < 10 < 60 < found.floats["y"].repaired


def test_outputs_of_any_kind_can_be_read_again() -> None:
    runs = [[np.full(4, index, np.float32), np.array(["a", "b"], object), [np.ones(2, bool)]] for index in range(3)]
    with Kept(iter(runs)) as outputs:
        assert len(outputs) == 3
        for _ in range(2):
            found = list(outputs)
            assert [o[0].tolist() for o in found] == [[index] * 4 for index in range(3)]
            assert found[2][1].tolist() == ["a", "b"] and found[0][2][0].tolist() == [True, True]


def test_the_outputs_of_many_samples_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    size = 1 << 18
    monkeypatch.setattr("qdqgraph.verify.kept.MEMORY", size)
    text = f"g (float[{size}] x) => (float[{size}] y) <uint8 z = {{0}}, float s = {{0.1}}, float t = {{0.07}}> {{"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> {text} a = QuantizeLinear (x, s, z) b = DequantizeLinear (a, s, z)'
        " c = Identity (b) d = QuantizeLinear (c, t, z) y = DequantizeLinear (d, t, z) }"
    )
    repair = fix(model, qdqgraph.rules())
    data = [{"x": np.full(size, index % 7, np.float32)} for index in range(4)] * 10
    tracemalloc.start()
    found = verify(model, repair, Path(), data=data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.samples == 40 and "y" in found.outputs
    assert peak < 20 * 4 * size < 40 * 4 * size, "fewer than half of the outputs of one model"


FOLDED = """g (float[1,4] x) => (float[1,4] y) <uint8 z = {0}, float s = {0.1}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
    big = Neg (x) bq = QuantizeLinear (big, s, z) bd = DequantizeLinear (bq, s, z) y = Add (d, bd) }"""


def test_the_float_side_has_the_relu_that_the_range_of_a_pair_replaces() -> None:
    """Both pairs replace a Relu only where a tensor of the network feeds them: -x becomes relu(-x)."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {FOLDED}')
    real = run(
        float_reference(model, qdqgraph.rules(), Path()), [{"x": np.array([[-2, -1, 1, 2]], np.float32)}], Path()
    )
    assert real[0][0].tolist() == [[0, 0, 1, 2]]


RANDOM = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) <float s = {0.1}, int8 z = {0}> {
    i = Identity (x) q = QuantizeLinear (i, s, z) d = DequantizeLinear (q, s, z)
    r = QuantizeLinear (d, s, z) e = DequantizeLinear (r, s, z)
    n = RandomNormalLike (e) y = Add (e, n) p = Sigmoid (e) v = Bernoulli (p) }"""


def test_an_output_that_is_the_same_for_other_inputs_shows_nothing() -> None:
    """The scale of the first pair is far below every value: all of them saturate, whatever the input is."""
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float tiny = {0.0000001}, float[1,4,1,1] k = {1, 2, 3, 4}> {
            p = Abs (x) q = t.pair (p, tiny) a = Abs (q) c = t.conv4 (a, s1) d = t.conv4 (a, s2) e = Add (c, d) y = Add (e, k) }"""
    )
    repaired = fix(model, qdqgraph.rules())
    assert repaired.model is not repaired.exact
    found = verify(model, repaired, Path()).outputs["y"]
    assert found.identical and found.caveat == "independent of the inputs"


def test_indices_in_reverse_order_are_another_input() -> None:
    """The repair changes no bit of values that are multiples of the scale, and the output depends on the indices."""
    model = build(
        """g (int64[9] i) => (float[9,1] y) <float[4,1] t = {0, 0.5, 1, 1.5}, float s = {0.5}, int8 z = {0}> {
            f = Gather <axis = 0> (t, i) q = QuantizeLinear (f, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d) }"""
    )
    repaired = fix(model, [Unpairs()])
    assert repaired.model is not repaired.exact
    found = verify(model, repaired, Path()).outputs["y"]
    assert found.identical and not found.caveat


class Unpairs(Rule):
    """Lets a Sigmoid read the unquantized tensor."""

    code, name, safety = "MY202", "unpairs", Safety.LOSSY

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Sigmoid"):
            pair = pairs(graph).made(node.inputs[0].name)
            if pair is not None:
                yield self.finding(node, "reads a pair", edits=[Rewire((key(node), 0), pair.tensor)])


def test_an_output_that_is_listed_twice_is_compared_twice() -> None:
    values = [[np.ones(2), np.full(2, 3.0)]]
    assert list(compared(["y", "y"], values, values)) == ["y"]


def test_random_numbers_are_the_same_in_both_models() -> None:
    """The repair removes the repeated pair, so every later node has another position."""
    found = check(RANDOM)
    assert found.note == "the model draws random numbers; both models drew the same ones"
    assert all(a.identical and not a.caveat for a in found.outputs.values())
