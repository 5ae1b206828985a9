"""What a repair makes of each finding, and why findings remain."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from ...repair.rehearsal import Rehearsal
from ...rulekit.finding import Finding, Safety, Severity

QUOTED = re.compile(r"'[^']*'|\d[\d,.]*")
"""What differs between the reasons of one kind: quoted names, and numbers."""


RESOLVED = "resolved by the repair of others"
"""The advice for a finding that is gone when others are repaired."""


class Outcome(Enum):
    """What becomes of a finding in a repair."""

    REPAIRABLE = "repairable"
    """The repair of the finding itself is applied."""
    FOLLOWS = "follows"
    """It is gone when the other findings are repaired, in most cases those for which TensorRT refuses the file."""
    PARTLY = "partly"
    """It is repaired as far as the scales in the file allow, and remains for the rest."""
    LEFT = "left"
    """It remains."""

    @property
    def remains(self) -> bool:
        """Whether the finding is there after the repair."""
        return self in (Outcome.PARTLY, Outcome.LEFT)


@dataclass(frozen=True)
class Judged:
    """A finding and its outcome.

    Attributes:
        finding: the finding.
        outcome: what becomes of it.
        why: why it remains; "" for the other outcomes.
    """

    finding: Finding
    outcome: Outcome
    why: str = ""

    @property
    def ended(self) -> Finding:
        """The finding with what becomes of it as its advice."""
        if self.outcome is Outcome.FOLLOWS:
            return replace(self.finding, refused="", help=RESOLVED, bits_lost=None)
        if self.outcome.remains and self.finding.repairable:
            return replace(self.finding, refused=self.why)
        return self.finding


@dataclass(frozen=True)
class Left:
    """Findings of one rule that remain for one kind of reason.

    Attributes:
        code: the rule's code.
        name: the rule's name.
        severity: as the findings.
        why: the reason, of the first finding.
        asked: whether `--also` with the code repairs them.
        findings: the findings, those that cost most first.
    """

    code: str
    name: str
    severity: Severity
    why: str
    asked: bool
    findings: tuple[Finding, ...]


def judged(findings: Iterable[Finding], rehearsal: Rehearsal | None) -> tuple[Judged, ...]:
    """Returns the findings with their outcome, those that cost most first.

    Without a rehearsal, or if it failed, the outcome is what each finding says of itself: no finding follows.
    """
    if rehearsal is None or rehearsal.failed:
        found = (Judged(f, Outcome.REPAIRABLE) if f.repairable else Judged(f, Outcome.LEFT, why(f)) for f in findings)
        return tuple(sorted(found, key=lambda j: cost_order(j.finding)))
    left = {finding.identity: finding for finding in rehearsal.left}

    def outcome(finding: Finding) -> Judged:
        applied = finding.identity in rehearsal.repaired
        if finding.identity in left:
            return Judged(finding, Outcome.PARTLY if applied else Outcome.LEFT, why(left[finding.identity]))
        return Judged(finding, Outcome.REPAIRABLE if applied else Outcome.FOLLOWS)

    return tuple(sorted(map(outcome, findings), key=lambda j: cost_order(j.finding)))


def cost_order(finding: Finding) -> tuple[int, bool, tuple[str, str, str]]:
    """The sort key of findings by cost: the largest first, then errors, then code and place."""
    return -finding.bytes, finding.severity is not Severity.ERROR, finding.order


def why(finding: Finding) -> str:
    """Returns why a finding remains after a repair: what refuses it, or what the user has to do."""
    if finding.refused:
        return finding.refused
    if on_request(finding):
        return f"{finding.help or 'repaired only on request'}: add --also {finding.code}"
    return finding.help or "no repair is known"


def on_request(finding: Finding) -> bool:
    """Whether `--also` with its code repairs it."""
    return bool(finding.edits) and finding.safety is Safety.MANUAL and not finding.refused


def by_reason(findings: Iterable[Finding]) -> tuple[Left, ...]:
    """Returns what remains, by rule and kind of reason: reasons that differ only in names and numbers are one kind.

    Errors come first, then what costs most.
    """
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(findings, key=cost_order):
        groups.setdefault((finding.code, QUOTED.sub("…", why(finding))), []).append(finding)
    found = [
        Left(f[0].code, f[0].name, f[0].severity, why(f[0]), all(map(on_request, f)), tuple(f)) for f in groups.values()
    ]
    return tuple(sorted(found, key=lambda left: left.severity is not Severity.ERROR))
