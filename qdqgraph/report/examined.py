"""`Examined`: what rules and forecast say of a model, with which checks, measurements of layers and reports begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ..engines.forecast.cost import priced
from ..engines.forecast.forecast import fused
from ..engines.layers import Engine
from ..graph.graph import Graph
from ..model.inline.on_demand import OnDemand
from ..repair import rounds
from ..repair.gate import opened
from ..repair.options import Options
from ..repair.solution import Solution
from ..rulekit.finding import Finding
from ..rulekit.rule import Rule, scan
from ..targets.target import Target


@dataclass(frozen=True)
class Examined(OnDemand):
    """What rules and forecast say of a model.

    Attributes:
        graph: the view of the model that the rules see.
        target: the TensorRT generation that the model is for.
        engine: its forecast.
        findings: its findings with their predicted cost.
        groups: the groups of its sites.
        scanned: what the rules found, before the ties are solved.
    """

    graph: Graph
    target: Target
    engine: Engine
    findings: tuple[Finding, ...]
    groups: Solution
    scanned: tuple[Finding, ...]


def examined(model: onnx.ModelProto, folder: Path, name: str, rules: Sequence[Rule], options: Options) -> Examined:
    """What rules and forecast say of a model with this name.

    Raises:
        ModelError, RuleError: as `check`.
    """
    return examined_graph(opened(model, rules, Target.named(options.target), folder), name, rules, options)


def examined_graph(graph: Graph, name: str, rules: Sequence[Rule], options: Options) -> Examined:
    """What rules and forecast say of the graph of a quantized model; raises `RuleError` as `check`."""
    scanned = scan(graph, rules)
    groups, findings = rounds.settled(graph, scanned, options)
    engine = fused(graph.sized(options.sizes), name)
    return Examined(graph, graph.target, engine, priced(findings, engine), groups, scanned)
