"""Builds an engine with any of the supported libraries, and explains a parser error with the findings of the rules."""

from __future__ import annotations

from pathlib import Path

from ...errors import EngineError
from ...graph.graph import Graph
from ...log import LOG
from ...model.external import external_files
from ...model.files import read_model
from ...repair.options import Options
from ...repair.resolve import resolve
from ...rulekit import catalog
from ...rulekit.rule import scan
from ..layers import Engine
from . import LIBRARIES, openvino, tensorrt, trtexec
from .how import Build, RefusedError
from .refusal import explain


def require(library: str) -> None:
    """Checks that one of `LIBRARIES` is installed, before the work whose result it is to build.

    Raises:
        EngineError: it is not, or there is no such library.
    """
    if library not in LIBRARIES:
        raise EngineError(f"unknown builder {library!r}; the builders are {', '.join(LIBRARIES)}")
    if library == "trtexec":
        trtexec.installed()
    elif library == "openvino":
        openvino.require()
    else:
        tensorrt.module_of(library)


def built(model: Path, library: str, how: Build) -> Engine:
    """Builds the engine of a model with one of `LIBRARIES`.

    Raises:
        ModelError: the model or its external data cannot be read.
        RefusedError: TensorRT refused the model; the message gives the node, the rule and what `fix` would do.
        EngineError: the engine cannot be built.
    """
    require(library)
    found = read_model(model)
    external_files(found, model.parent)
    graph = Graph.opened(found, model.parent)
    LOG.info("building %s with %s", model, library)
    try:
        if library == "trtexec":
            return trtexec.build(graph, model, how)
        if library == "openvino":
            return openvino.build(graph, model, how)
        return tensorrt.build(graph, model, library, how)
    except RefusedError as error:
        findings = resolve(graph, scan(graph, catalog.load()), Options())[1]
        lines = [refusal.sentence for refusal in explain(graph, error.errors, findings)]
        raise RefusedError("\n  ".join([str(error), *lines]), error.errors) from error
