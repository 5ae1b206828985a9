"""A rule's page: its text, its examples as pictures and as chains of operators."""

import re

import qdqgraph
from qdqgraph.report import pages
from qdqgraph.report.drawing import Drawing, lines
from qdqgraph.rulekit import Graph, catalog
from tests.support.models import CONCAT, build
from tests.support.paths import ROOT


def test_the_pages_in_docs_are_those_of_the_rules() -> None:
    """Mend a difference with: qdqgraph rules pages --force -o docs/rules"""
    folder = ROOT / "docs" / "rules"
    made = pages.pages(catalog.load(installed=False))
    assert {p.name for p in folder.iterdir()} == set(made)
    for name, content in made.items():
        assert (folder / name).read_text(encoding="utf-8") == content, name


def test_an_example_is_drawn_as_chains() -> None:
    graph = Graph(
        build(
            CONCAT.replace("t.conv4 (a, s1)", "t.pair (a, s1)")
            .replace("t.conv8 (c, s2)", "Sigmoid (c)")
            .replace("float[1,4,8,8] v", "float[1,8,8,8] v")
        )
    )
    assert lines(Drawing.of(graph)) == ["x ─ Relu ─▶ a", "a ─ Q 0.1 ─ DQ 0.1 ─▶ y", "a, t ─ Concat ─ Sigmoid ─▶ v"]


def test_pages_show_one_colour_a_scale() -> None:
    made = pages.pages([catalog.find(qdqgraph.rules(), "QDQ101")])
    picture = made["QDQ101-1.svg"]
    assert len(set(re.findall(r'fill="(#\w+)" stroke="#666666"', picture))) == 3, "two scales, and what has none"
    assert "![before and after](QDQ101-1.svg)" in made["QDQ101.md"] and "[QDQ101](QDQ101.md)" in made["README.md"]
