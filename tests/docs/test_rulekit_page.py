"""docs/rulekit.md lists the names of `qdqgraph.rulekit`, no others, with the parameters and members that they have."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

from qdqgraph import rulekit
from qdqgraph.graph.pair import Pairs
from qdqgraph.graph.sites import Sites
from tests.support.models import build
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "rulekit.md").read_text(encoding="utf-8")
ENTRIES: list[tuple[str, str]] = re.findall(r"^- `(\w+)(?:\((.*?)\))?` —", PAGE, re.MULTILINE)
"""Name and parameters of each entry; no parameters for types and constants."""
MEMBERS = sorted(set(re.findall(r"`([A-Z]\w+)\.(\w+)", PAGE)))
"""Class and member, wherever the page names one."""


def parameters(text: str) -> list[tuple[str, str]]:
    """Names and defaults of "a, b=()", a star left out."""
    found = [part.strip().lstrip("*").partition("=") for part in text.split(",") if part.strip()]
    return [(name, default) for name, _, default in found]


def actual(name: str) -> Iterator[tuple[str, str]]:
    """Names and defaults of the parameters."""
    for parameter in inspect.signature(getattr(rulekit, name)).parameters.values():
        default = "" if parameter.default is parameter.empty else repr(parameter.default)
        yield parameter.name, default


def test_every_name_is_on_the_page_once_and_no_other() -> None:
    assert sorted(name for name, _ in ENTRIES) == sorted(rulekit.__all__)


@pytest.mark.parametrize(("name", "given"), [entry for entry in ENTRIES if entry[1]])
def test_parameters_are_those_of_the_code(name: str, given: str) -> None:
    assert parameters(given) == list(actual(name))


def test_members_are_those_of_the_code() -> None:
    tables = {"Pairs": Pairs, "Sites": Sites}
    assert len(MEMBERS) > 40
    for owner, member in MEMBERS:
        found = tables.get(owner) or getattr(rulekit, owner)
        shown = {*dir(found), *getattr(found, "__annotations__", ()), *getattr(found, "__dataclass_fields__", ())}
        assert member in shown or member in dir(table(owner)), f"{owner}.{member}"


def table(owner: str) -> object:
    """An instance, for members that a class sets when it is made."""
    graph = rulekit.Graph(build("g (float[1] x) => (float[1] y) { y = Relu (x) }"))
    return {"Graph": graph, "Pairs": rulekit.pairs(graph), "Sites": rulekit.sites(graph)}.get(owner)
