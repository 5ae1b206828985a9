"""Report pages for tests: of a model, with hostile names, and in a browser without a window."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

import qdqgraph
from qdqgraph import api
from qdqgraph.graph.graph import Graph
from qdqgraph.report.html import pages, repairs
from qdqgraph.report.html.data import Page
from qdqgraph.report.html.views import Drawn

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "\n</script><script>document.title='owned'</script><img src=x onerror=alert(1)>{{7*7}}<!--\u2028\u202e\x00\x1b'\"&amp;"
"""What ends a script element, is markup, an expression of a template, or a control character."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def drawn(model: onnx.ModelProto) -> Drawn:
    """A model as a graph of the page, with its forecast."""
    graph = Graph(model)
    return Drawn("", graph, qdqgraph.forecast(model) if legal(model) else api.check(model).engine)


def legal(model: onnx.ModelProto) -> bool:
    """Whether no rule says that TensorRT refuses the model."""
    return not any(finding.severity.value == "error" for finding in qdqgraph.check(model))


def check_page(model: onnx.ModelProto, name: str = "model.onnx", *, rehearse: bool = True) -> Page:
    """The page of `check`."""
    rules = qdqgraph.rules()
    return pages.check_page(Path(name), api.check(model, rules, rehearse=rehearse), rules)


def fix_page(model: onnx.ModelProto, name: str = "model.onnx") -> Page:
    """The page of `fix`, of a dry run."""
    rules = qdqgraph.rules()
    result = qdqgraph.fix(model, rules)
    return repairs.fix_page("fix", Path(name), None, result, rules, qdqgraph.Options())


def hostile(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with `HOSTILE` at the end of the name of each node, tensor, input and output."""
    for node in model.graph.node:
        node.name = f"{node.op_type}{node.output[0]}{HOSTILE}"
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = f"{name}{HOSTILE}" if name else ""
    for item in (*model.graph.initializer, *model.graph.input, *model.graph.output, *model.graph.value_info):
        item.name += HOSTILE
    return model


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium without a window; the test is skipped where there is none, or no playwright to drive it."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("no Chromium here, or no playwright to drive it: the report was not opened in a browser")
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to run as root with its sandbox
    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=path, args=sandbox)
        try:
            yield window
        finally:
            window.close()
