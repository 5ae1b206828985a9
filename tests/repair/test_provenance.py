"""A written model says how it was made, in one metadata entry: version, rules, options, digest of the input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import qdqgraph
from qdqgraph import Options
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.model.content import content
from qdqgraph.repair.provenance import PROVENANCE, runs
from qdqgraph.rulekit import catalog
from tests.support.models import CONCAT, build
from tests.support.samples import uniform


def entry(model: onnx.ModelProto | Path) -> list[dict[str, Any]]:
    """What a model says of the runs that made it."""
    found = onnx.load(model) if isinstance(model, Path) else model
    texts = [e.value for e in found.metadata_props if e.key == PROVENANCE]
    assert len(texts) <= 1
    return json.loads(texts[0]) if texts else []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file whose Concat has different scales: QDQ101."""
    path = tmp_path / "model.onnx"
    path.write_bytes(build(CONCAT).SerializeToString(deterministic=True))
    return path


def test_a_fixed_file_names_version_rules_options_and_input(source: Path, tmp_path: Path) -> None:
    qdqgraph.fix(source, options=Options(max_bits_lost=2.5), output=tmp_path / "fixed.onnx")
    assert entry(tmp_path / "fixed.onnx") == [
        {
            "call": "fix",
            "version": qdqgraph.__version__,
            "rules": ["QDQ101", "QDQ203"],
            "options": {"max_bits_lost": 2.5},
            "input": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
    ]


def test_the_same_run_gives_the_same_file_wherever_it_is_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    outputs = [tmp_path / "a.onnx", tmp_path / "other" / "b.onnx"]
    for output in outputs:
        qdqgraph.fix(source, output=output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert str(tmp_path) not in outputs[0].read_bytes().decode("latin-1")


def test_undo_restores_the_input_and_apply_makes_the_output(source: Path, tmp_path: Path) -> None:
    fixed, plan = tmp_path / "fixed.onnx", tmp_path / "plan.json"
    qdqgraph.fix(source, output=fixed, plan=plan)
    qdqgraph.undo(plan, fixed, output=tmp_path / "undone.onnx")
    qdqgraph.apply(plan, source, output=tmp_path / "applied.onnx")
    assert (tmp_path / "undone.onnx").read_bytes() == source.read_bytes()
    assert (tmp_path / "applied.onnx").read_bytes() == fixed.read_bytes()


def test_a_run_that_changes_nothing_adds_nothing(source: Path, tmp_path: Path) -> None:
    fixed, again = tmp_path / "fixed.onnx", tmp_path / "again.onnx"
    qdqgraph.fix(source, output=fixed)
    assert not qdqgraph.fix(fixed, output=again).plan.edits
    assert again.read_bytes() == fixed.read_bytes()


def test_a_later_run_is_added_to_the_earlier_ones(source: Path, tmp_path: Path) -> None:
    fixed, half = tmp_path / "fixed.onnx", tmp_path / "half.onnx"
    qdqgraph.fix(source, output=fixed)
    qdqgraph.fix(fixed, fp16=True, keep_io=True, output=half, plan=tmp_path / "plan.json")
    first, second = entry(half)
    assert [first] == entry(fixed) and second["options"] == {"fp16": True, "keep_io": True}
    assert second["input"] == hashlib.sha256(fixed.read_bytes()).hexdigest()
    qdqgraph.undo(tmp_path / "plan.json", half, output=tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == fixed.read_bytes()


def test_it_names_the_rules_that_took_part_and_the_numbers_that_were_given(source: Path, tmp_path: Path) -> None:
    qdqgraph.fix(source, select=["QDQ1"], fp16=True, magnitudes={"x": 3.0}, output=tmp_path / "fixed.onnx")
    (run,) = entry(tmp_path / "fixed.onnx")
    assert run["options"] == {
        "selected": [rule.code for rule in qdqgraph.rules(select=["QDQ1"], installed=False)],
        "fp16": True,
        "magnitudes": hashlib.sha256(b'{"x": 3.0}').hexdigest(),
    }


def test_a_rule_of_ones_own_is_named_with_the_digest_of_its_file(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    builtin = qdqgraph.rules(select=["QDQ101"], installed=False)[0]
    file.write_bytes(builtin.file.read_bytes())
    qdqgraph.fix(source, catalog.load([file], builtin=False, installed=False), output=tmp_path / "fixed.onnx")
    (run,) = entry(tmp_path / "fixed.onnx")
    assert run["options"]["rule_files"] == {"QDQ101": hashlib.sha256(file.read_bytes()).hexdigest()}


def test_what_data_decide_is_named_by_its_digests(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    samples, reference = uniform(onnx.load(source)), tmp_path / "float.onnx"
    onnx.save(float_model(onnx.load(source), tmp_path).model, reference)
    qdqgraph.fix(source, data=samples, reference=reference, fp16=True, numerics=True, output=tmp_path / "fixed.onnx")
    qdqgraph.to_fp16(source, data=samples, output=tmp_path / "half.onnx")
    (first,), (second,) = entry(tmp_path / "fixed.onnx"), entry(tmp_path / "half.onnx")
    assert set(first["options"]) == {"fp16", "numerics", "data", "reference"}
    assert first["options"]["data"] == second["options"]["data"]
    assert first["options"]["reference"] == content(onnx.load(reference), tmp_path)


def test_strip_and_to_fp16_tell_too(source: Path, tmp_path: Path) -> None:
    qdqgraph.strip(source, ["v"], output=tmp_path / "strip.onnx")
    qdqgraph.to_fp16(source, output=tmp_path / "half.onnx")
    assert [(run["call"], run["options"]) for run in entry(tmp_path / "strip.onnx")] == [("strip", {"nodes": ["v"]})]
    assert [(run["call"], run["options"]) for run in entry(tmp_path / "half.onnx")] == [("to_fp16", {})]


def test_it_can_be_left_out_and_changes_nothing_else(source: Path, tmp_path: Path) -> None:
    plain, told = tmp_path / "plain.onnx", tmp_path / "told.onnx"
    result = qdqgraph.fix(source, output=plain, provenance=False)
    qdqgraph.fix(source, output=told)
    model = onnx.load(told)
    del model.metadata_props[[e.key for e in model.metadata_props].index(PROVENANCE)]
    assert model == onnx.load(plain) == result.model == qdqgraph.fix(source).model


@pytest.mark.parametrize("value", ["", "{", "[1]", "{}", "[" * 100_000], ids=len)
def test_an_entry_that_is_not_ours_is_replaced(value: str, source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    model.metadata_props.add(key=PROVENANCE, value=value)
    onnx.save(model, source)
    assert runs(model) == ()
    qdqgraph.fix(source, output=tmp_path / "fixed.onnx")
    assert len(entry(tmp_path / "fixed.onnx")) == 1
