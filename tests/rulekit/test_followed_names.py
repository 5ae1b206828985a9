"""Ties by name in a repair: the names are looked up once, before the first round, and followed through merges."""

from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph.graph.named import named_sites
from qdqgraph.graph.pair import pairs
from qdqgraph.graph.selectors import PATHS, quantizers
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.text import TextRule
from tests.support.models import build

HEAD = 'code = "MY101"\nname = "hand-written"\nsummary = "x"\nwhy = "y"\nsource = ["z"]\nsafety = "lossy"\n'
RULES = qdqgraph.rules()


def rule(folder: Path, *names: str) -> TextRule:
    file = folder / "ties.toml"
    file.write_text(HEAD + f"[[tie]]\nquantizers = {list(names)}\n".replace("'", '"'))
    return TextRule(file)


def two_pairs_on_one_tensor() -> onnx.ModelProto:
    """A convolution and an add read one tensor through equal pairs of their own, and a Neg through another scale."""
    model = build(
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] z) <float s = {0.05}, float k = {0.06}, "
        "float t = {0.05}> { a = Neg (x) p = t.pair (a, s) q = t.pair (a, t) y = Sigmoid (p) m = Neg (q) "
        "z = t.pair (m, k) }"
    )
    names = iter(("conv/_input_quantizer", "addop/_input1_quantizer", "last/_input_quantizer"))
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            node.name = f"/block/{next(names)}/QuantizeLinear"
    return model


def test_a_tie_survives_the_merge_of_the_pair_that_it_names(tmp_path: Path) -> None:
    model, mine = two_pairs_on_one_tensor(), rule(tmp_path, "block.addop", "block.last")
    assert {"MY101", "QDQ205"} <= {f.code for f in qdqgraph.check(model, [*RULES, mine])}
    fixed = qdqgraph.fix(model, [*RULES, mine]).model
    graph = Graph(fixed)
    assert sum(n.op == "QuantizeLinear" for n in graph.nodes()) == 2
    assert [p.value for p in pairs(graph)] == [pytest.approx(0.06)] * 2
    assert "block.addop._input1_quantizer" in quantizers(graph), "the merged pair keeps both names"
    assert not qdqgraph.check(fixed, [*RULES, mine]), "the file is checked with the same rules"
    assert qdqgraph.fix(fixed, [*RULES, mine]).model.SerializeToString() == fixed.SerializeToString()


def test_without_ties_by_name_a_repair_writes_no_names() -> None:
    fixed = qdqgraph.fix(two_pairs_on_one_tensor(), RULES).model
    assert not [entry for entry in fixed.metadata_props if entry.key.startswith(PATHS)]


def test_one_glob_matches_a_module_with_all_its_quantizers_and_those_of_its_calls() -> None:
    model = build(
        "g (float[1,4] x) => (float[1,4] y, float[1,4] z) <float s = {0.05}, float k = {0.06}> "
        "{ a = Neg (x) b = Abs (x) y = t.pair (a, s) z = t.pair (b, k) }"
    )
    quantized = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for index, inside in enumerate(("/addop/", "/addop/_functional/add_0/")):
        quantized[index].name = f"/blocks.0{inside}_input{index}_quantizer/QuantizeLinear"
    graph = Graph(model)
    assert [site.tensor for site in named_sites(graph, "quantizers", "blocks.*.addop")] == ["a", "b"]
    assert [site.tensor for site in named_sites(graph, "quantizers", "blocks.0.addop._functional.add_0")] == ["b"]
    assert not named_sites(graph, "quantizers", "blocks.0")


def test_what_reads_a_site_identifies_it_where_its_tensor_is_gone() -> None:
    text = "g (float[1,4] x) => (float[1,4] y) <float s = {0.05}> { %s = Neg (x) p = t.pair (%s, s) [n] y = Abs (p) }"
    before, renamed = (Graph(build(text % (name, name))) for name in ("a", "b"))
    (site,) = named_sites(before, "tensors", "a")
    assert site.now(before) == "a" and site.now(renamed) == "b"
    assert site.now(Graph(build("g (float[1,4] x) => (float[1,4] y) { y = Relu (x) }"))) is None


@pytest.mark.parametrize("value", ["no list", '{"a": 1}', '["gone"]'])
def test_names_in_the_metadata_that_say_nothing_are_left_out(value: str) -> None:
    model = build("g (float[1,4] x) => (float[1,4] y) <float s = {0.05}> { y = t.pair (x, s) }")
    model.metadata_props.add(key=f"{PATHS}some.path", value=value)
    assert "some.path" not in quantizers(Graph(model))
