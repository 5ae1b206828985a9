"""Targets: one file per generation of TensorRT, and a source for each fact in it."""

import pytest

from qdqgraph.errors import ModelError
from qdqgraph.targets.target import DEFAULT, FOLDER, NAMES, Target
from qdqgraph.versions import tomllib


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_names_a_page_or_the_version_it_was_measured_on(name: str) -> None:
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    facts = {key: table for key, table in content.items() if isinstance(table, dict)}
    typed = {"opset", "typing", "fp16", "deconvolution", "groups", "weights"}
    assert set(facts) == typed | {
        "kernels",
        "pairs",
        "moves",
        "dequantize",
        "padding",
        "deconvolution_kernel",
        "averages",
        "max_pools",
        "epilogues",
        "gates",
    }
    assert all(table["source"].startswith(("https://", "measured on ")) for table in facts.values())
    assert Target.named(name).title == content["title"]


def test_fp16_can_be_given_in_the_file_where_the_parser_knows_operator_set_19() -> None:
    """QuantizeLinear and DequantizeLinear accept FP16 since operator set 19; a parser before that cannot be given any."""
    for target in map(Target.named, NAMES):
        assert target.fp16 == (target.opset >= 19), target.name
        assert target.fp16 or not target.strong, target.name


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    assert DEFAULT in NAMES
    with pytest.raises(
        ModelError, match=r"unknown target 'trt-9'; did you mean 'trt-10'\? Known targets: trt-10, trt-11"
    ):
        Target.named("trt-9")
