"""Calls on rules: rules, why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..authoring.why import Answer
from ..authoring.why import why as answer
from ..graph.graph import Graph
from ..repair.options import Options
from ..rulekit import catalog
from ..rulekit.rule import Rule
from ..targets.target import Target
from . import given
from .given import File, Model


def rules(
    paths: Sequence[File] = (),
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    builtin: bool = True,
    installed: bool = True,
) -> tuple[Rule, ...]:
    """The rules to check or repair by, sorted by code.

    Args:
        paths: rule files and folders to add; Python rules run as code.
        select, ignore: codes, prefixes of codes, names or globs: only these rules, not these rules.
        builtin, installed: whether the built-in rules, and those of installed rule packs, are among them.

    Raises:
        RuleError: a file does not load, a rule is incomplete, a code is given twice, or a selector matches no rule.
    """
    places = [Path(path) for path in paths]
    found = catalog.load(places, builtin=builtin, installed=installed)
    return catalog.select(found, select, ignore, catalog.redirects(places))


def why(
    code: str,
    model: Model,
    at: str,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    folder: File | None = None,
    **settings: Any,
) -> Answer:
    """What one rule does at a tensor, or the condition that kept it silent.

    Args:
        code: a code or name of one of `rules`.
        at: a tensor, or a node by its name.
        rules, options, folder: as `check`.

    Raises:
        RuleError: there is no such rule, tensor or node, or a rule crashed.
        ModelError: the model cannot be read or imported; or an option has no such name.
    """
    found, place, _ = given.read(model, folder)
    known, asked = given.rule_list(rules), given.option_values(options, settings)
    graph = Graph(found, place, target=Target.named(asked.target))
    return answer(graph, catalog.find(known, code), at, known, asked)
