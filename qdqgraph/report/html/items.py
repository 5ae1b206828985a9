"""Findings and the documentation of their rules, for the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ...printable import printable
from ...repair.seed import CODE
from ...rulekit.catalog import builtin_folder
from ...rulekit.finding import Finding
from ...rulekit.rule import Documentation
from ...rulekit.rule import Rule as AnyRule
from ..results import Result
from ..summary.outcomes import Judged, Outcome, why
from .data import Item, Rule, State
from .scenes import Scene

STATES: Mapping[Outcome, State] = {
    Outcome.REPAIRABLE: "repairable",
    Outcome.FOLLOWS: "follows",
    Outcome.PARTLY: "left",
    Outcome.LEFT: "left",
}
"""The state of a finding by its outcome."""


def judged_items(judged: Iterable[Judged], here: Scene) -> tuple[Item, ...]:
    """The findings of `check`, with what a repair would do."""
    return tuple(item(each.finding, STATES[each.outcome], each.why, here) for each in judged)


def repaired_items(before: Iterable[Finding], result: Result, both: Scene) -> tuple[Item, ...]:
    """The findings before a repair and those that it brought to light, with what became of each; without the layers
    that `quantize` quantizes.

    Args:
        before: the findings of the first graph, with their costs.
        result: the repair.
        both: the graphs before and after it.
    """
    left = {finding.identity: finding for finding in result.left}
    done = {finding.identity for finding in result.applied}
    found: list[Item] = []
    seen = set()
    for finding in (*before, *result.applied, *result.left):
        if finding.identity in seen or finding.code == CODE:
            continue
        seen.add(finding.identity)
        state: State = "left" if finding.identity in left else "repaired" if finding.identity in done else "gone"
        reason = why(left[finding.identity]) if state == "left" else ""
        found.append(item(finding, state, reason, replace(both, drawn=both.drawn[::-1]) if reason else both))
    return tuple(found)


def item(finding: Finding, state: State, reason: str, here: Scene) -> Item:
    """A finding with the boxes of its place and of its tie."""
    sites = finding.tie.sites if finding.tie is not None else ()
    return Item(
        code=printable(finding.code),
        name=printable(finding.name),
        severity=finding.severity.value,
        state=state,
        place=printable(finding.place),
        node=printable(finding.node),
        message=printable(finding.message),
        help=printable(finding.help),
        why=printable(reason),
        bytes=finding.bytes,
        bits=finding.bits_lost,
        box=here.box(finding.place, finding.node),
        boxes=tuple(dict.fromkeys(b for s in sites if (b := here.box(s)) is not None)),
    )


def documented(rules: Iterable[AnyRule], codes: Iterable[str]) -> tuple[Rule, ...]:
    """The documentation of the rules with these codes, by code."""
    wanted = set(codes)
    return tuple(_rule(rule) for rule in sorted(rules, key=lambda rule: rule.code) if rule.code in wanted)


def _rule(rule: AnyRule) -> Rule:
    text = Documentation.of(rule)
    page = f"docs/rules/{rule.code}.md" if rule.file.is_relative_to(builtin_folder()) else str(rule.file)
    parts = (text.summary, text.why, text.when_not, text.source, page)
    return Rule(printable(rule.code), printable(rule.name), rule.safety.value, *map(printable, parts))
