"""docs/rulekit.md lists the names of `qdqgraph.rulekit`, no others, with the parameters and members that they have."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from qdqgraph import rulekit
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
    assert len(MEMBERS) > 40
    for owner, member in MEMBERS:
        found = getattr(rulekit, owner)
        shown = {*dir(found), *getattr(found, "__annotations__", ()), *getattr(found, "__dataclass_fields__", ())}
        assert member in shown or member in dir(table(owner)), f"{owner}.{member}"


def table(owner: str) -> object:
    """An instance, for members that a class sets when it is made."""
    graph = rulekit.Graph(build("g (float[1] x) => (float[1] y) { y = Relu (x) }"))
    return {"Graph": graph, "Pairs": rulekit.pairs(graph), "Sites": rulekit.sites(graph)}.get(owner)


TASKS: list[tuple[str, str]] = re.findall(r"^\| [^|]+ \| `([^`|]+)` \| `([^`|]+)` \|$", PAGE, re.MULTILINE)
"""The expressions of the index by task, with their results."""


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    """What an expression of the index may use: every name of the package, numpy, and the graphs that the page shows."""
    graphs = re.findall(r"^```onnx (\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shown = {name: rulekit.Graph(onnx.parser.parse_model(text)) for name, text in graphs}
    return {name: getattr(rulekit, name) for name in rulekit.__all__} | shown | {"np": np}


@pytest.mark.parametrize(("expression", "result"), TASKS)
def test_the_index_by_task_gives_what_it_says(names: dict[str, object], expression: str, result: str) -> None:
    assert repr(eval(expression, dict(names))) == result


def test_the_index_has_an_example_of_every_function() -> None:
    used = {word for expression, _ in TASKS for word in re.findall(r"\w+", expression)}
    assert [n for n in rulekit.__all__ if inspect.isfunction(getattr(rulekit, n)) and n not in used] == []
