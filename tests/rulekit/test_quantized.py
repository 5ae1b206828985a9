"""A rule for a quantized operator of a domain of the user's own is one file: it says what counts as quantized."""

import re
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph import ModelError, RuleError
from qdqgraph.authoring import testing
from qdqgraph.cli import main
from qdqgraph.rulekit import Graph, Rule
from qdqgraph.rulekit.catalog import load

MODEL = """
<ir_version: 8, opset_import: ["" : %d, "acme" : 1]>
g (float[1,1,4,4] x) => (float[1,1,4,4] y)
<float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
{
    a = Relu (x)
    y = acme.QuantConv (a, s, z, w, sw, z)
}"""
MEANING = """
<domain: "acme", opset_import: ["" : 17]>
QuantConv (x, s, z, w, sw, zw) => (y)
{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    k = DequantizeLinear (w, sw, zw)
    y = Conv (d, k)
}"""
AFTER = """
<ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
g (float[1,1,4,4] x) => (float[1,1,4,4] y)
<float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
{
    a = Relu (x)
    q = QuantizeLinear (a, s, z)
    d = DequantizeLinear (q, s, z)
    k = DequantizeLinear (w, sw, z)
    y = Conv (d, k)
}"""
EXAMPLE = (MODEL % 17).rstrip() + MEANING
TEXT = f'''
code = "ACME401"
name = "quant-conv-custom"
summary = "TensorRT has no QuantConv of acme."
why = "The parser takes it for a plugin and finds none."
source = ["measured"]
safety = "exact"
severity = "error"
quantized = ["acme.QuantConv"]
message = "TensorRT has no QuantConv"

pattern = """
pattern (x, s, z, w, sw, zw) => (y) {{ y = acme.QuantConv (x, s, z, w, sw, zw) }}"""
rewrite = """
rewrite (x, s, z, w, sw, zw) => (y) {{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    k = DequantizeLinear (w, sw, zw)
    y = Conv (d, k)
}}"""

[[example]]
title = "one"
before = """{EXAMPLE}"""
after = """{AFTER}"""

[[counterexample]]
title = "Q/DQ"
model = """{AFTER}"""
'''
PYTHON = f'''"""ACME401."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety, Severity, key, make_node, replace


class QuantConvCustom(Rule):
    """TensorRT has no QuantConv of acme.

    Why: the parser takes it for a plugin and finds none.
    Source: measured
    """

    code, name, safety, severity = "ACME401", "quant-conv-custom", Safety.EXACT, Severity.ERROR
    quantized = ("acme.QuantConv",)
    examples = (Example("one", """{EXAMPLE}""", """{AFTER}"""), Counterexample("Q/DQ", """{AFTER}"""))

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in self.quantized_nodes(graph):
            x, s, z, w, sw, zw = (t.name for t in node.inputs)
            made = [
                make_node("QuantizeLinear", [x, s, z], "q"),
                make_node("DequantizeLinear", ["q", s, z], "d"),
                make_node("DequantizeLinear", [w, sw, zw], "k"),
                make_node("Conv", ["d", "k"], key(node)),
            ]
            yield self.finding(node, "TensorRT has no QuantConv", edits=[replace([node], made)])
'''
FILES = {"quant_conv.toml": TEXT, "quant_conv.py": PYTHON}


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder's only rule file, as text and as Python."""
    path = tmp_path / request.param
    path.write_text(FILES[request.param])
    return path


def alone(file: Path) -> tuple[Rule, ...]:
    return load([file], builtin=False, installed=False)


def model(opset: int = 17, text: str = MODEL) -> onnx.ModelProto:
    return onnx.parser.parse_model(text % opset)


def ops(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def test_check_finds_it_and_fix_repairs_it_in_a_model_without_any_pair(file: Path) -> None:
    for rules in (alone(file), load([file])):
        (finding,) = qdqgraph.check(model(), rules)
        assert (finding.code, finding.place) == ("ACME401", "y")
        result = qdqgraph.fix(model(), rules)
        assert ops(result.model) == ["Relu", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"]
        assert [f.code for f in result.applied] == ["ACME401"] and not result.left
        assert not qdqgraph.check(result.model, rules)


def test_fix_raises_the_operator_set_to_one_that_has_pairs(file: Path) -> None:
    result = qdqgraph.fix(model(12), alone(file))
    assert {o.domain: o.version for o in result.model.opset_import} == {"": 13, "acme": 1}


def test_strip_reaches_the_rule(file: Path) -> None:
    """Its node has no pair that could be taken off; the model is not refused for holding nothing quantized."""
    with pytest.raises(ModelError, match="is quantized") as error:
        qdqgraph.strip(model(), rules=alone(file), select=[rule.code for rule in alone(file)])
    assert "no QuantizeLinear" not in str(error.value)


def test_the_rule_keeps_its_word_and_the_command_line_takes_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tests of the rule compare numbers: the example defines the operator as a function."""
    (rule,) = alone(file)
    assert [v.fault for v in testing.verdicts(rule) if v.fault] == []
    path = file.with_name("model.onnx")
    onnx.save(model(), path)
    assert main(["check", str(path), "--rules", str(file)]) == 1
    assert "ACME401" in capsys.readouterr().out
    assert main(["fix", str(path), "--rules", str(file), "-o", str(path.with_name("fixed.onnx"))]) == 0
    assert main(["check", str(path)]) == 2
    message = "no rule treats one of its operators as quantized; quantize it first"
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_example_that_onnxruntime_cannot_run_says_what_is_missing(file: Path) -> None:
    pytest.importorskip("onnxruntime")
    file.write_text(file.read_text().replace(MEANING, ""))
    (rule,) = alone(file)
    (fault,) = (v.fault for v in testing.verdicts(rule) if v.fault)
    assert fault.startswith("broken: onnxruntime cannot run the model")
    assert fault.endswith("define operators that ONNX Runtime lacks as functions in the example")


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("acme.QuantConv", ["y"]),
        ("QuantConv", ["y", "v"]),
        ("*.QuantConv", ["y", "v"]),
        ("other.*", ["v"]),
        ("Quant*", ["y", "v"]),
        ("acme.Relu", []),
        ("Relu", ["a"]),
        ("*.Relu", []),
    ],
)
def test_an_entry_names_operators_of_one_domain_or_of_any(tmp_path: Path, entry: str, found: list[str]) -> None:
    path = tmp_path / "quant_conv.py"
    path.write_text(PYTHON.replace('("acme.QuantConv",)', f'("{entry}",)'))
    (rule,) = alone(path)
    text = MODEL.replace('"acme" : 1', '"acme" : 1, "other" : 1').replace(
        "=> (float[1,1,4,4] y)", "=> (float[1,1,4,4] y, float[1,1,4,4] v)"
    )
    text = text.replace("y = acme", "v = other.QuantConv (a, s, z, w, sw, z) y = acme")
    nodes = rule.quantized_nodes(Graph(model(text=text)))
    assert sorted(node.outputs[0].name for node in nodes) == sorted(found)


@pytest.mark.parametrize("value", ['"acme.QuantConv"', '("acme:QuantConv",)', '("",)'])
def test_a_python_rule_that_names_them_otherwise_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "quant_conv.py"
    path.write_text(PYTHON.replace('("acme.QuantConv",)', value))
    with pytest.raises(RuleError, match=r'quantized is .*; write, for example, \("acme.QuantConv",\)'):
        alone(path)


def test_a_text_rule_that_names_them_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "quant_conv.toml"
    path.write_text(TEXT.replace('["acme.QuantConv"]', '["acme:QuantConv"]'))
    with pytest.raises(
        RuleError, match=r"toml:9: quantized #1 is 'acme:QuantConv'; write, for example, 'acme.QuantConv'"
    ):
        alone(path)


def test_every_quantized_operator_of_onnxruntime_is_one_rules_own() -> None:
    """What onnxruntime can write in no other form than its own: each is named by exactly one built-in rule."""
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    schemas = state.get_all_operator_schema()
    names = {(schema.domain, schema.name) for schema in schemas}
    newest = sorted(schemas, key=lambda schema: schema.since_version)
    inputs = {(s.domain, s.name): max(1, s.min_input) for s in newest}
    outputs = {(s.domain, s.name): max(1, s.min_output) for s in newest}
    marks = r"^Q(Linear|Gemm|MoE|Attention|Embed|Ordered)|Integer|NBits|Bnb4|FpQ4|BlockQuantized|DynamicQuantize"
    foreign = {name for name in names if re.search(rf"{marks}|WithOrder|NhwcMaxPool", name[1])}
    foreign |= {(domain, op) for domain, op in names if domain and op in ("QuantizeLinear", "DequantizeLinear")}
    assert len(foreign) > 40
    rules = [rule for rule in load(installed=False) if rule.quantized]
    for domain, op in sorted(foreign):
        read = ", ".join(["x"] * inputs[domain, op])
        made = ", ".join(["y", "z", "u", "v", "w"][: outputs[domain, op]])
        node = f"{made} = {domain or 'ai.onnx'}.{op} ({read})"
        text = f'<ir_version: 8, opset_import: ["" : 17]> g (float x) => (float y) {{ {node} }}'
        graph = Graph(onnx.parser.parse_model(text))
        assert len([rule.code for rule in rules if rule.quantized_nodes(graph)]) == 1, (domain, op)
