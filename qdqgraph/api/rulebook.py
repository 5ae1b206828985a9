"""Functions for rules: rules, why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..authoring.why import Answer
from ..authoring.why import why as answer
from ..graph.graph import Graph
from ..repair.options import Options
from ..rulekit import catalog
from ..rulekit.rule import Rule, handled
from ..targets.target import Target
from ..versions import Unpack
from . import given
from .call import public
from .given import File, Model
from .settings import CheckOptions


@public()
def rules(
    paths: Sequence[File] = (),
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    builtin: bool = True,
    installed: bool = True,
) -> tuple[Rule, ...]:
    """Returns the rules to check or repair by, sorted by code.

    Args:
        paths: rule files and folders to add; Python rules execute code.
        select: return only these rules: codes, prefixes of codes, names or globs.
        ignore: omit these rules.
        builtin: include the built-in rules.
        installed: include the rules of installed rule packs.

    Raises:
        RuleError: a file cannot be loaded, a rule is incomplete, two rules have one code, or a selector matches no
            rule.
    """
    places = [Path(path) for path in paths]
    found = catalog.load(places, builtin=builtin, installed=installed)
    return catalog.select(found, select, ignore, catalog.redirects(places))


@public(CheckOptions)
def why(
    code: str,
    model: Model,
    at: str,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    folder: File | None = None,
    trace: bool = False,
    **settings: Unpack[CheckOptions],
) -> Answer:
    """Returns what one rule does at a tensor, or the condition that failed.

    Args:
        code: the code or name of one of `rules`.
        model: a model, or its path.
        at: the name of a tensor or node.
        rules: as `check`.
        options: as `check`.
        folder: as `check`.
        trace: for the author of a Python rule: also the line of its file that discarded the tensor.
        settings: as `check`.

    Raises:
        RuleError: the rule, tensor or node is unknown, or a rule crashed.
        ModelError: the model cannot be read or imported.
    """
    found, place, _ = given.read(model, folder)
    known, asked = given.rule_list(rules), given.option_values(options, settings, rules)
    graph = Graph.opened(found, place, target=Target.named(asked.target), keeps=handled(known))
    return answer(graph, catalog.find(known, code), at, known, asked, trace=trace)
