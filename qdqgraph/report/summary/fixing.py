"""The summary of `fix` and `quantize`: what was repaired and what is left, and the model before and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import counted
from ...proposals.proposal import PlacePair
from ...repair.seed import CODE
from ...repair.solution import Change
from ...rulekit.finding import Finding, Safety, Severity
from ...verify.verification import Verification
from .outcomes import Left, by_reason, cost_order
from .sides import Numbers, Row, Side, by_loss, numbers, rows
from .words import size

if TYPE_CHECKING:
    from ..results import Result


@dataclass(frozen=True)
class Repaired:
    """The repaired findings of one rule, those that cost most first."""

    code: str
    name: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class FixSummary:
    """What `fix` or `quantize` did to one file.

    Attributes:
        path: the file, as the user wrote it.
        written: the file that was written; None if none was.
        plan: the plan that was written; None if none was.
        repaired: the repaired findings by rule, those with the most findings first.
        left: what remains, by rule and reason.
        before: the given model.
        after: the repaired model.
        changes: the sites whose scale changed, the largest loss first.
        numbers: the numeric check; None if it was not asked for.
        rows: the table before and after.
        remarks: what else to know of the numeric check: where samples come from, another reference or device.
    """

    path: str
    written: str | None
    plan: str | None
    repaired: tuple[Repaired, ...]
    left: tuple[Left, ...]
    before: Side
    after: Side
    changes: tuple[Change, ...]
    numbers: Numbers | None
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many findings were repaired."""
        return sum(len(each.findings) for each in self.repaired)

    @property
    def remaining(self) -> int:
        """How many findings are left."""
        return sum(len(each.findings) for each in self.left)

    @property
    def legality(self) -> str:
        """What TensorRT says of the file before and after, by the findings; "" if it accepts both."""
        old, new = self.before.errors, self.after.errors
        now = f"refuses it for {counted(new, 'error')} now" if new else "accepts it now"
        if old:
            return f"TensorRT refused the file for {counted(old, 'error')} and {now}"
        return f"TensorRT {now}" if new else ""

    @property
    def verdict(self) -> str:
        """The most important fact in one sentence without the path."""
        done = f"{counted(self.count, 'finding')} repaired" if self.count else "nothing to repair"
        parts = [f"{done}, {self.remaining} left" if self.remaining else done, self.legality]
        old, new = self.before.int8, self.after.int8
        if old is not None and new is not None:
            layers = f"{new.int8} of {new.weighted} weighted layers in {new.kind}"
            layers += f" instead of {old.int8}" if old.int8 != new.int8 else ""
            sizes = self.before.errors == 0 and not old.unsized and old.bytes != new.bytes
            moved = f"{size(old.bytes)} -> {size(new.bytes)} a run" if sizes else ""
            parts += (new.warning or layers, moved)
        return "; ".join(filter(None, parts))


def summary(path: str, written: Path | str | None, plan: Path | str | None, result: Result) -> FixSummary:
    """Returns the summary of a repair.

    Args:
        path: the file, as the user wrote it.
        written: the file that was written; None for a dry run.
        plan: the plan that was written; None if none was.
        result: what `api.fix` or `api.quantize` returned.
    """
    groups: dict[str, list[Finding]] = {}
    for finding in sorted(result.applied, key=cost_order):
        if finding.code != CODE:  # `quantize` quantizes all layers but those in `floats`
            groups.setdefault(finding.code, []).append(finding)
    repaired = [Repaired(code, mine[0].name, tuple(mine)) for code, mine in groups.items()]
    seeded = any(finding.code == CODE for finding in result.applied)
    shares = result.int8 if result.int8 is not None else (None, None)
    before = Side(None if seeded else len(result.found), _errors(result.found), result.pairs_before, shares[0])
    after = Side(len(result.left), _errors(result.left), result.pairs_after, shares[1])
    checked = None if result.numbers is None else numbers(result.numbers, floats=seeded)
    return FixSummary(
        path=path,
        written=None if written is None else str(written),
        plan=None if plan is None else str(plan),
        repaired=tuple(sorted(repaired, key=lambda each: (-len(each.findings), each.code))),
        left=by_reason(result.left),
        before=before,
        after=after,
        changes=by_loss(result.changes),
        numbers=checked,
        rows=tuple(rows(result, before, after, checked)),
        remarks=(
            *_layers_lost(before, after, result.left),
            *(() if result.numbers is None else _remarks(result.numbers)),
        ),
    )


def _layers_lost(before: Side, after: Side, left: Sequence[Finding]) -> Iterator[str]:
    """Yields what to do if layers left INT8, which the guard allows only where TensorRT refuses the file otherwise."""
    old, new = before.int8, after.int8
    if old is not None and new is not None and new.int8 < old.int8 and before.errors:
        lost = counted(old.int8 - new.int8, "layer")
        again = "to place INT8 pairs instead, remove all (strip --nodes '*'), then quantize"
        missing = [f for f in left if any(isinstance(edit, PlacePair) and edit.calibrate for edit in f.edits)]
        if missing:
            codes = sorted({finding.code for finding in missing if finding.safety is Safety.MANUAL})
            also = f" --also {','.join(codes)}" if codes else ""
            again = f"--data{also} places pairs with measured scales"
        yield f"{lost} left INT8: pairs that TensorRT refuses were removed; {again}"


def _remarks(check: Verification) -> Iterator[str]:
    if check.source:
        yield f"samples: {check.source}"
    if check.note:
        yield f"numeric check: {check.note}"


def _errors(findings: Iterable[Finding]) -> int:
    return sum(finding.severity is Severity.ERROR for finding in findings)
