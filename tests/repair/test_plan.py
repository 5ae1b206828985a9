"""Plans: what they do not name stays byte for byte, stale ones are refused, undo is exact."""

import json

import onnx
import pytest

import qdqgraph
from qdqgraph import Plan, PlanError
from qdqgraph.repair.edits import Insert, Remove, SetInput, SetVersion
from tests.support.models import build
from tests.support.paths import DATA

TEXT = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"


@pytest.fixture
def model() -> onnx.ModelProto:
    """A model that carries all that exporters leave in files."""
    made = build(TEXT)
    made.producer_name, made.domain, made.model_version, made.doc_string = "some exporter", "com.example", 7, "notes"
    made.metadata_props.add(key="names", value="{0: 'person'}")
    made.graph.doc_string = "graph notes"
    for node in made.graph.node:
        node.doc_string = f"made by {node.op_type}"
        node.metadata_props.add(key="class", value="Conv2d")
    annotation = made.graph.quantization_annotation.add(tensor_name="a")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s1")
    made.graph.value_info.append(onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1, 4, 8, 8]))
    made.functions.append(
        onnx.helper.make_function(
            "f",
            "unused",
            ["i"],
            ["o"],
            [onnx.helper.make_node("Relu", ["i"], ["o"])],
            [onnx.helper.make_opsetid("", 17)],
        )
    )
    made.opset_import.append(onnx.helper.make_opsetid("f", 1))
    return made


def test_what_the_plan_does_not_name_is_untouched(model: onnx.ModelProto) -> None:
    result = qdqgraph.fix(model, qdqgraph.rules())
    assert result.applied
    for field in ("producer_name", "domain", "model_version", "doc_string", "functions", "opset_import", "ir_version"):
        assert getattr(result.model, field) == getattr(model, field)
    for field in ("doc_string", "quantization_annotation", "value_info", "input", "output", "name"):
        assert getattr(result.model.graph, field) == getattr(model.graph, field)
    kept = {n.output[0]: n for n in result.model.graph.node}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Relu"):
            assert kept[node.output[0]] == node
    assert result.model.metadata_props[0] == model.metadata_props[0]


def test_a_plan_survives_json_and_is_undone_to_the_byte(model: onnx.ModelProto) -> None:
    result = qdqgraph.fix(model, qdqgraph.rules())
    plan = Plan.from_json(result.plan.to_json())
    assert plan == result.plan
    assert plan.apply(model).SerializeToString() == result.model.SerializeToString()
    assert plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    assert plan.inverse().inverse() == plan


def test_the_diff_shows_every_edit(model: onnx.ModelProto) -> None:
    plan = qdqgraph.fix(model, qdqgraph.rules()).plan
    lines = plan.diff().splitlines()
    assert len(lines) == len(plan.edits)
    assert any(line.startswith("- ") and "QuantizeLinear" in line for line in lines)
    assert any(line.startswith("+ initializer a_scale FLOAT[]") for line in lines), lines


def test_a_stale_plan_is_refused(model: onnx.ModelProto) -> None:
    result = qdqgraph.fix(model, qdqgraph.rules())
    with pytest.raises(PlanError, match="undo it instead"):
        result.plan.apply(result.model)
    model.graph.node[0].name = "renamed"
    with pytest.raises(PlanError, match="made for a model with sha256"):
        result.plan.apply(model)


def test_a_recorded_plan_is_read_and_written_to_the_byte() -> None:
    text = (DATA / "plan.json").read_text(encoding="utf-8")
    plan = Plan.from_json(text)
    assert {type(edit) for edit in plan.edits} == {Insert, Remove, SetInput, SetVersion}
    assert plan.to_json() == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "the plan is not valid JSON: "),
        ("[" * 100_000, "the plan is not valid JSON: "),
        ("[]", "this is not a plan of format 1; make one with: qdqgraph fix MODEL --plan FILE"),
        ('{"format": 99, "edits": []}', "this is not a plan of format 1"),
        ('{"format": 1, "edits": {}}', "this is not a plan of format 1"),
        ('{"format": 1, "edits": []}', "the plan is damaged: Object missing required field `base_sha256`"),
    ],
)
def test_a_text_that_is_no_plan_is_refused(text: str, said: str) -> None:
    with pytest.raises(PlanError) as error:
        Plan.from_json(text)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("place", "field", "value", "said"),
    [
        (0, "edit", "explode", "edits[0].edit: Invalid value 'explode'"),
        (0, "node", None, "edits[0].node: Expected `str`, got `null`"),
        (0, "index", -1, "edits[0].index: Expected `int` >= 0"),
        (1, "index", "1", "edits[1].index: Expected `int`, got `str`"),
        (2, "field", "nodes", "edits[2].field: Invalid enum value 'nodes'"),
        (2, "data", "????", "edits[2].data: Invalid base64 encoded string"),
        (2, "data", "/////w==", "edits[2].data: this is not a valid TensorProto"),
        (8, "new", 1.5, "edits[8].new: Expected `int`, got `float`"),
    ],
)
def test_a_damaged_plan_is_refused_with_the_field(place: int, field: str, value: object, said: str) -> None:
    content = json.loads((DATA / "plan.json").read_text())
    content["edits"][place][field] = value
    with pytest.raises(PlanError) as error:
        Plan.from_json(json.dumps(content))
    assert str(error.value) == f"the plan is damaged: {said}"


def test_a_tampered_plan_is_refused(model: onnx.ModelProto) -> None:
    content = json.loads(qdqgraph.fix(model, qdqgraph.rules()).plan.to_json())
    del content["edits"][0]
    with pytest.raises(PlanError, match=r"damaged|stale"):
        Plan.from_json(json.dumps(content)).apply(model)


def test_changes_outside_the_plannable_fields_are_no_plan(model: onnx.ModelProto) -> None:
    other = onnx.ModelProto.FromString(model.SerializeToString())
    other.producer_name = "another"
    with pytest.raises(PlanError, match="that a plan cannot change"):
        Plan.between(model, other)


def test_new_names_avoid_every_name_in_the_model() -> None:
    made = build(TEXT.replace("a = Relu", "a_scale = Identity (x) a_scale_1 = Identity (x) a = Relu"))
    made.graph.node[0].output[0] = "a_scale"
    result = qdqgraph.fix(made, qdqgraph.rules())
    onnx.checker.check_model(result.model, full_check=True)
    assert "a_scale_2" in {i.name for i in result.model.graph.initializer}
