"""The functions that check a model: check, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ..crash import guarded
from ..engines.forecast.cost import priced
from ..engines.forecast.forecast import forecast
from ..engines.layers import Engine
from ..engines.share import Int8Share
from ..graph.graph import Graph
from ..repair import rounds
from ..repair.gate import opened
from ..repair.options import Options
from ..repair.solution import Solution
from ..rulekit.finding import Finding, Severity
from ..rulekit.rule import Rule
from ..targets.target import Target
from . import given
from .given import File, Model


@dataclass(frozen=True)
class Checked:
    """What `checked` says of a model.

    Attributes:
        findings: as `check` returns them.
        int8: what runs in INT8, by the forecast for the requested target.
    """

    findings: tuple[Finding, ...]
    int8: Int8Share


@dataclass(frozen=True)
class Examined:
    """What rules and forecast say of a model.

    Attributes:
        graph: the view of the model that the rules see.
        engine: its forecast.
        findings: its findings with their predicted cost.
        groups: the groups of its sites.
    """

    graph: Graph
    engine: Engine
    findings: tuple[Finding, ...]
    groups: Solution


@guarded
def check(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    folder: File | None = None,
    other_targets: bool = False,
    **settings: Any,
) -> tuple[Finding, ...]:
    """Returns what prevents TensorRT from building or fusing a model, with the predicted cost of each finding in bytes.

    Args:
        model: a model, or its path.
        rules: the rules to check by; the built-in and installed rules by default.
        options: the settings of a repair. They can also be given by name, such as `target="trt-11"`.
        folder: the folder that contains the external data; the folder of the file by default.
        other_targets: also report findings that occur on other targets only; such a finding has a `target`.
        settings: fields of `Options` by name.

    Raises:
        ModelError: the model is not quantized, or cannot be read or imported; or an option name is unknown.
        RuleError: `rules` contains an object that is not a rule, a rule crashed, or the policy is unknown.
    """
    return checked(model, rules, options, folder=folder, other_targets=other_targets, **settings).findings


@guarded
def checked(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    folder: File | None = None,
    other_targets: bool = False,
    **settings: Any,
) -> Checked:
    """Returns what `check` returns, and what of the model runs in INT8; arguments and errors as `check`."""
    found, place, source = given.read(model, folder)
    known = examined(found, place, source.name, rules, options, settings)
    here = known.findings
    share = Int8Share.of(known.engine, (f.code for f in here if f.severity is Severity.ERROR))
    away = rounds.elsewhere(known.graph, given.rule_list(rules), here) if other_targets else ()
    return Checked((*here, *away), share)


def examined(
    model: onnx.ModelProto,
    folder: Path,
    name: str,
    rules: Sequence[Rule] | None,
    options: Options | None,
    settings: dict[str, Any],
) -> Examined:
    """What rules and forecast say of a model with this name.

    Raises:
        ModelError, RuleError: as `check`.
    """
    chosen, asked = given.rule_list(rules), given.option_values(options, settings)
    graph = opened(model, chosen, Target.named(asked.target), folder)
    engine = forecast(graph, name)
    groups, findings = rounds.examined(graph, chosen, asked)
    return Examined(graph, engine, priced(findings, engine), groups)
