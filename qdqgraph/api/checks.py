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
from ..engines.forecast.judge import Judge
from ..engines.layers import Engine
from ..engines.share import Int8Share
from ..graph.graph import Graph
from ..repair import rounds
from ..repair.gate import opened
from ..repair.options import Options
from ..repair.rehearsal import Rehearsal, rehearsed
from ..repair.solution import Solution
from ..rulekit.finding import Finding, Severity
from ..rulekit.rule import Rule, scan
from ..targets.target import Target
from . import given
from .given import File, Model


@dataclass(frozen=True)
class Checked:
    """What `checked` says of a model.

    Attributes:
        findings: as `check` returns them.
        int8: what runs in INT8, by the forecast for the requested target.
        engine: that forecast.
        rehearsal: what a repair would do; None unless `rehearse` asked for it.
        after: what would run in INT8 after it; None if there was none, or it failed.
    """

    findings: tuple[Finding, ...]
    int8: Int8Share
    engine: Engine
    rehearsal: Rehearsal | None = None
    after: Int8Share | None = None


@dataclass(frozen=True)
class Examined:
    """What rules and forecast say of a model.

    Attributes:
        graph: the view of the model that the rules see.
        engine: its forecast.
        findings: its findings with their predicted cost.
        groups: the groups of its sites.
        scanned: what the rules found, before the ties are solved.
    """

    graph: Graph
    engine: Engine
    findings: tuple[Finding, ...]
    groups: Solution
    scanned: tuple[Finding, ...]


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
    rehearse: bool = False,
    **settings: Any,
) -> Checked:
    """Returns what `check` returns, what of the model runs in INT8, and with `rehearse` what a repair with the same
    options would do; other arguments and errors as `check`.

    A rehearsal carries the repair out in memory, without data and without a numeric check. It takes one to three times
    as long as the check.
    """
    found, place, source = given.read(model, folder)
    chosen, asked = given.rule_list(rules), given.option_values(options, settings)
    known = examined(found, place, source.name, chosen, asked, {})
    here = known.findings
    share = Int8Share.of(known.engine, (f.code for f in here if f.severity is Severity.ERROR))
    away = rounds.elsewhere(known.graph, chosen, here) if other_targets else ()
    if not rehearse:
        return Checked((*here, *away), share, known.engine)
    judge = Judge()
    judge.shares = (share,)
    done = rehearsed(known.graph, here, known.scanned, chosen, asked, judge.price, judge.refuse)
    after = judge.shares[-1] if here and not done.failed else None
    return Checked((*here, *away), share, known.engine, done, after)


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
    scanned = scan(graph, chosen)
    groups, findings = rounds.settled(graph, scanned, asked)
    return Examined(graph, engine, priced(findings, engine), groups, scanned)
