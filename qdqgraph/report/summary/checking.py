"""The summary of `check`: the verdict, a row per rule, the most expensive places, and what runs in INT8."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...engines.forecast.cost import excess_of, together
from ...engines.share import Int8Share
from ...errors import counted
from ...rulekit.finding import Finding, Severity
from ...targets.target import Target
from .outcomes import Judged, Left, Outcome, by_reason, judged
from .words import percent, size

if TYPE_CHECKING:
    from ..checked import Checked


@dataclass(frozen=True)
class CodeRow:
    """The findings of one rule.

    Attributes:
        code: the rule's code, "QDQ101".
        name: the rule's name.
        severity: error if TensorRT refuses the file for one of them.
        findings: how many there are.
        repairable: those that a repair with the same options repairs.
        follows: those that are gone when the others are repaired.
        bytes: bytes of activations that they cost together in one run; those of one tensor count once.
        share: these bytes as a share of all that the network reads and writes in one run, 0 to 1 by the forecast.
    """

    code: str
    name: str
    severity: Severity
    findings: int
    repairable: int
    follows: int
    bytes: int
    share: float

    @property
    def left(self) -> int:
        """How many remain after a repair."""
        return self.findings - self.repairable - self.follows


@dataclass(frozen=True)
class Place:
    """A tensor with findings.

    Attributes:
        tensor: its name.
        findings: its findings with their outcomes, those that cost most first.
        bytes: bytes that they cost together in one run.
        share: as `CodeRow.share`.
    """

    tensor: str
    findings: tuple[Judged, ...]
    bytes: int
    share: float

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings, each once, in their order."""
        return tuple(dict.fromkeys(judged.finding.code for judged in self.findings))


@dataclass(frozen=True)
class CheckSummary:
    """What `check` says of one file.

    Attributes:
        path: the file, as the user wrote it.
        target: the name of the generation for messages, "TensorRT 10.2 to 10.16".
        findings: all findings for the target, with their outcomes, those that cost most first.
        codes: a row for each rule that found something: errors first, then by cost.
        places: the tensors with findings, those that cost most first.
        bytes: bytes that all findings cost together in one run; those of one tensor count once.
        int8: what runs in INT8, by the forecast.
        after: what would run in INT8 after a repair; None if unknown.
        kept: what a repair would leave, also what only its other repairs bring to light, by reason.
        failed: why a repair fails; "" if it does not, or if that is unknown.
        elsewhere: the findings that only another target has, by the name of that target.
        fix: the command that repairs the file, without the codes that `--also` has to name.
    """

    path: str
    target: str
    findings: tuple[Judged, ...]
    codes: tuple[CodeRow, ...]
    places: tuple[Place, ...]
    bytes: int
    int8: Int8Share
    after: Int8Share | None
    kept: tuple[Left, ...]
    failed: str
    elsewhere: Mapping[str, tuple[Finding, ...]]
    fix: str

    def count(self, outcome: Outcome) -> int:
        """Returns how many findings have an outcome."""
        return sum(each.outcome is outcome for each in self.findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings for which TensorRT refuses the file."""
        return tuple(each.finding for each in self.findings if each.finding.severity is Severity.ERROR)

    @property
    def unwritten(self) -> str:
        """Why `fix` with the same options would write nothing: TensorRT would still refuse the file; "" if it would."""
        if self.failed:
            return self.failed
        stay = [left for left in self.kept if left.severity is Severity.ERROR]
        return "; ".join(f"{left.code} remains at {counted(len(left.findings), 'place')}: {left.why}" for left in stay)

    @property
    def command(self) -> str:
        """The command that repairs what can be repaired, with the codes for `--also` without which it writes nothing;
        "" if there is no such command."""
        stay = [left for left in self.kept if left.severity is Severity.ERROR]
        idle = not stay and self.count(Outcome.LEFT) == len(self.findings)
        if self.failed or idle or not all(left.asked for left in stay):
            return ""
        return self.fix + (f" --also {','.join(sorted({left.code for left in stay}))}" if stay else "")

    @property
    def verdict(self) -> str:
        """The most important fact in one sentence without the path."""
        share = self.int8
        if errors := self.errors:
            codes = ", ".join(dict.fromkeys(row.code for row in self.codes if row.severity is Severity.ERROR))
            return f"{self.target} refuses this file: {counted(len(errors), 'error')} ({codes})"
        ratio = f"{share.int8} of {share.weighted} weighted layers in {share.kind}"
        if not self.findings:
            return f"no findings{f', but {share.warning}' if share.warning else f'; {ratio}'}"
        if share.warning:
            return f"{share.warning}: {counted(len(self.findings), 'finding')}"
        found = counted(len(self.findings), "finding")
        if self.bytes and share.bytes:
            verb = "costs" if len(self.findings) == 1 else "cost"
            found += f" that {verb} {size(self.bytes)} a run ({percent(self.bytes / share.bytes)})"
        return f"{found}; {ratio}"

    @property
    def total(self) -> str:
        """How many findings there are, and what a repair makes of them: "17 findings, 16 repairable"."""
        return f"{counted(len(self.findings), 'finding')}, {self.outcomes}"

    @property
    def outcomes(self) -> str:
        """What a repair makes of the findings: "16 repairable"; what is left too if others are resolved, or in part."""
        follows, partly, left = map(self.count, (Outcome.FOLLOWS, Outcome.PARTLY, Outcome.LEFT))
        parts = [f"{self.count(Outcome.REPAIRABLE):,} repairable"]
        parts += [f"{partly:,} repairable in part"] if partly else []
        parts += [f"{follows:,} resolved with them"] if follows else []
        parts += [f"{left:,} left"] if left and (follows or partly) else []
        return ", ".join(parts)

    @property
    def prospect(self) -> str:
        """`total`, and why a repair would write nothing if no option changes that."""
        stuck = self.unwritten and not self.command
        return f"{self.total}, but fix would write nothing: {self.unwritten}" if stuck else self.total

    @property
    def next_step(self) -> str:
        """`prospect` and the command that repairs: "17 findings, 16 repairable: qdqgraph fix …"."""
        return ": ".join(filter(None, (self.prospect, self.command)))


def summary(path: str, checked: Checked, fix: str = "") -> CheckSummary:
    """Returns the summary of a checked file.

    Args:
        path: the file, as the user wrote it.
        checked: what `api.check` returned, best with a rehearsal: without one, the outcome of each finding is what it
            says of itself.
        fix: the command that repairs the file; by default `fix` without options.
    """
    here = [finding for finding in checked.findings if not finding.target]
    found = judged(here, checked.rehearsal)
    excess = excess_of(checked.engine)
    whole = checked.int8.bytes

    def cost(some: Iterable[Judged]) -> tuple[int, float]:
        spent = together((each.finding for each in some), excess)
        return spent, spent / whole if whole else 0.0

    rows = [_row(mine, *cost(mine)) for mine in _grouped(found, lambda f: f.code)]
    places = [Place(mine[0].finding.place, mine, *cost(mine)) for mine in _grouped(found, lambda f: f.place)]
    known = checked.rehearsal
    targets = dict.fromkeys(finding.target for finding in checked.findings if finding.target)
    return CheckSummary(
        path=path,
        target=Target.named(checked.target).title,
        findings=found,
        codes=tuple(sorted(rows, key=lambda row: (row.severity is not Severity.ERROR, -row.bytes, row.code))),
        places=tuple(sorted(places, key=lambda place: -place.bytes)),
        bytes=cost(found)[0],
        int8=checked.int8,
        after=checked.after,
        kept=() if known is None or known.failed else by_reason(known.left),
        failed="" if known is None else known.failed,
        elsewhere={name: tuple(f for f in checked.findings if f.target == name) for name in targets},
        fix=fix or shlex.join(("qdqgraph", "fix", path, "-o", "fixed.onnx")),
    )


def _grouped(found: Iterable[Judged], by: Callable[[Finding], str]) -> Iterable[tuple[Judged, ...]]:
    groups: dict[str, list[Judged]] = {}
    for each in found:
        groups.setdefault(by(each.finding), []).append(each)
    return map(tuple, groups.values())


def _row(mine: tuple[Judged, ...], bytes: int, share: float) -> CodeRow:
    first, outcomes = mine[0].finding, Counter(each.outcome for each in mine)
    errors = any(each.finding.severity is Severity.ERROR for each in mine)
    return CodeRow(
        code=first.code,
        name=first.name,
        severity=Severity.ERROR if errors else Severity.WARNING,
        findings=len(mine),
        repairable=outcomes[Outcome.REPAIRABLE],
        follows=outcomes[Outcome.FOLLOWS],
        bytes=bytes,
        share=share,
    )
