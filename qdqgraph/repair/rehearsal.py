"""`Rehearsal`: what a repair would do to the findings of a model, without writing one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import QdqgraphError
from ..graph.graph import Graph
from ..model.protos import version
from ..rulekit.finding import Finding
from ..rulekit.rule import Rule
from .guard import Identity, Judge
from .options import Options
from .start import Start
from .work import Work


@dataclass(frozen=True)
class Rehearsal:
    """What `fix` with these options, without data, would do.

    Attributes:
        repaired: code and place of the findings that it repairs, also of those that only its repairs bring to light.
        left: the findings that remain after it, with the reason if a repair is refused.
        failed: why it cannot be carried out; "" otherwise.
    """

    repaired: frozenset[Identity]
    left: tuple[Finding, ...]
    failed: str = ""


def rehearsed(
    graph: Graph,
    findings: Sequence[Finding],
    scanned: tuple[Finding, ...],
    rules: Sequence[Rule],
    options: Options,
    judge: Judge,
) -> Rehearsal:
    """Returns what a repair would do, by carrying it out in memory as `rounds.fix` does.

    Args:
        graph: the graph; it is not modified.
        findings: its findings, as `rounds.examine` returns them.
        scanned: what the rules found in it.
        rules: the rules to repair by.
        options: what the repair may do.
        judge: as `rounds.fix`.
    """
    if not findings:
        return Rehearsal(frozenset(), ())
    work = Work(rules, options, judge=judge)
    work.knows(graph, scanned)
    try:
        final = work.run(Start.at(graph, version(graph.model), rules))[1]
        left = judge.price(final, work.left(final))
    except QdqgraphError as error:
        return Rehearsal(frozenset(), tuple(findings), str(error))
    return Rehearsal(frozenset(finding.identity for finding in work.applied), left)
