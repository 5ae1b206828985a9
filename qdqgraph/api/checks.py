"""The function that checks a model: check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engines.forecast.cost import priced
from ..engines.forecast.forecast import forecast
from ..graph.graph import Graph
from ..repair import rounds
from ..repair.gate import quantized
from ..repair.options import Options
from ..rulekit.finding import Finding
from ..rulekit.rule import Rule
from ..targets.target import Target
from . import given
from .given import File, Model


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
    found, place, source = given.read(model, folder)
    chosen, asked = given.rule_list(rules), given.option_values(options, settings)
    graph = quantized(Graph(found, place, target=Target.named(asked.target)), chosen)
    here = priced(rounds.examine(graph, chosen, asked), forecast(graph, source.name))
    return (*here, *rounds.elsewhere(graph, chosen, here)) if other_targets else here
