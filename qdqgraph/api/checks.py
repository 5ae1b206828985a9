"""The function that checks a model: check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import onnx

from ..engines.forecast.cost import priced
from ..engines.forecast.forecast import forecast
from ..engines.forecast.judge import Judge
from ..engines.layers import Engine
from ..engines.share import Int8Share
from ..graph.graph import Graph
from ..repair import rounds
from ..repair.gate import opened
from ..repair.options import Options
from ..repair.rehearsal import rehearsed
from ..repair.solution import Solution
from ..report.checked import Checked
from ..rulekit.finding import Finding, Severity
from ..rulekit.rule import Rule, scan
from ..targets.target import Target
from . import given
from .call import public
from .given import File, Model
from .settings import CheckOptions


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


@public(CheckOptions)
def check(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    folder: File | None = None,
    other_targets: bool = False,
    rehearse: bool = False,
    **settings: Unpack[CheckOptions],
) -> Checked:
    """Returns what prevents TensorRT from building or fusing a model, with the predicted cost of each finding in bytes.

    The result is a sequence of findings; it also says what of the model runs in INT8.

    Args:
        model: a model, or its path.
        rules: the rules to check by; the built-in and installed rules by default.
        select, ignore: run only these of the rules, or not these: codes, prefixes of codes, names or globs.
        options: the settings of a repair. They can also be given by name, such as `target="trt-11"`.
        folder: the folder that contains the external data; the folder of the file by default.
        other_targets: also report findings that occur on other targets only; such a finding has a `target`.
        rehearse: also say what a repair with the same options would do: it is carried out in memory, without data and
            without a numeric check, and takes one to three times as long as the check.
        settings: fields of `Options` by name.

    Raises:
        ModelError: the model is not quantized, or cannot be read or imported.
        RuleError: `rules` contains an object that is not a rule, a selector matches no rule, a rule crashed, or the
            policy is unknown.
        ArgumentError: there is no option of this name.
    """
    found, place, source = given.read(model, folder)
    chosen, asked = given.rule_list(rules, select, ignore), given.option_values(options, settings, rules)
    known = examined(found, place, source.name, chosen, asked, {})
    here = known.findings
    share = Int8Share.of(known.engine, (f.code for f in here if f.severity is Severity.ERROR))
    away = rounds.elsewhere(known.graph, chosen, here) if other_targets else ()
    found_now = Checked(str(source), known.graph.target.name, (*here, *away), share, known.engine)
    if not rehearse:
        return found_now
    judge = Judge()
    judge.shares = (share,)
    done = rehearsed(known.graph, here, known.scanned, chosen, asked, judge.price, judge.refuse)
    after = judge.shares[-1] if here and not done.failed else None
    return replace(found_now, rehearsal=done, after=after)


def examined(
    model: onnx.ModelProto,
    folder: Path,
    name: str,
    rules: Sequence[Rule],
    options: Options | None,
    settings: Mapping[str, Any],
) -> Examined:
    """What rules and forecast say of a model with this name.

    Raises:
        ModelError, RuleError: as `check`.
    """
    asked = given.option_values(options, settings, rules)
    graph = opened(model, rules, Target.named(asked.target), folder)
    engine = forecast(graph, name)
    scanned = scan(graph, rules)
    groups, findings = rounds.settled(graph, scanned, asked)
    return Examined(graph, engine, priced(findings, engine), groups, scanned)
