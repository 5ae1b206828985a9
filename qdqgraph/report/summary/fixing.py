"""The summary of `fix` and `quantize`: what was repaired and what is left, and the model before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...api.results import Result
from ...engines.share import Int8Share
from ...repair.seed import CODE
from ...repair.solution import Change
from ...rulekit.finding import Finding, Severity
from ...verify.verification import Verification
from .outcomes import Left, by_reason, cost_order
from .words import size


@dataclass(frozen=True)
class Repaired:
    """The repaired findings of one rule, those that cost most first."""

    code: str
    name: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Side:
    """A model before or after its repair.

    Attributes:
        findings: number of findings; None if unknown, as for a float model.
        errors: number of those for which TensorRT refuses the file.
        pairs: number of activation pairs.
        int8: what runs in INT8, by the forecast; None if unknown.
    """

    findings: int | None
    errors: int
    pairs: int
    int8: Int8Share | None


@dataclass(frozen=True)
class Numbers:
    """The numeric check in one line.

    Attributes:
        db: the SQNR of the worst output in dB, inf if its values are equal; None if nothing was compared.
        output: the name of that output.
        identical: number of outputs that are bit-identical.
        outputs: number of outputs that were compared.
        against: what the outputs are compared with: "the unrepaired model".
        inputs: what both ran on: "random inputs", "16 samples of your data".
        caution: what the figure is not; "" with data.
        skipped: why nothing was compared; "" otherwise.
    """

    db: float | None
    output: str
    identical: int
    outputs: int
    against: str
    inputs: str
    caution: str
    skipped: str

    @property
    def value(self) -> str:
        """The figure: "41.2 dB", "bit-identical", "not compared"."""
        if self.db is None:
            return "not compared"
        return "bit-identical" if self.identical == self.outputs else f"{self.db:.1f} dB"

    @property
    def meaning(self) -> str:
        """What the figure says: "against the unrepaired model on random inputs: not an accuracy figure"."""
        return self.skipped or f"against {self.against} on {self.inputs}{self.caution}"


@dataclass(frozen=True)
class Row:
    """A row of the table before and after: what, the value before, the value after, and what to know about it."""

    name: str
    before: str
    after: str
    note: str = ""


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
        worst: the site that lost the most resolution; None if no scale changed.
        changed: number of sites whose scale changed.
        numbers: the numeric check; None if it was not asked for.
        rows: the table before and after.
    """

    path: str
    written: str | None
    plan: str | None
    repaired: tuple[Repaired, ...]
    left: tuple[Left, ...]
    before: Side
    after: Side
    worst: Change | None
    changed: int
    numbers: Numbers | None

    @property
    def count(self) -> int:
        """How many findings were repaired."""
        return sum(len(each.findings) for each in self.repaired)

    @property
    def remaining(self) -> int:
        """How many findings are left."""
        return sum(len(each.findings) for each in self.left)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table before and after, as text."""
        return tuple(_rows(self))


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
    before, after = result.int8 if result.int8 is not None else (None, None)
    return FixSummary(
        path=path,
        written=None if written is None else str(written),
        plan=None if plan is None else str(plan),
        repaired=tuple(sorted(repaired, key=lambda each: (-len(each.findings), each.code))),
        left=by_reason(result.left),
        before=Side(None if seeded else len(result.found), _errors(result.found), result.pairs_before, before),
        after=Side(len(result.left), _errors(result.left), result.pairs_after, after),
        worst=max(result.changes, key=lambda change: (change.lost, change.site), default=None),
        changed=len(result.changes),
        numbers=None if result.numbers is None else numbers(result.numbers),
    )


def numbers(check: Verification) -> Numbers:
    """Returns the numeric check in one line; outputs that show nothing, such as empty ones, count for nothing."""
    shown = {name: each for name, each in check.outputs.items() if "nothing" not in each.caveat}
    blank = not shown and not check.skipped
    worst = min(shown, key=lambda name: (_db(shown[name].sqnr), name), default="")
    return Numbers(
        db=shown[worst].sqnr if worst else None,
        output=worst,
        identical=sum(each.identical for each in shown.values()),
        outputs=len(shown),
        against="the unrepaired model" if check.reference == "the input" else check.reference,
        inputs=f"{check.samples} samples of your data" if check.data else "random inputs",
        caution="" if check.data else ": not an accuracy figure; give --data",
        skipped="every output is empty, constant or not a number on these inputs" if blank else check.skipped,
    )


def _errors(findings: Iterable[Finding]) -> int:
    return sum(finding.severity is Severity.ERROR for finding in findings)


def _db(sqnr: float) -> float:
    return -math.inf if math.isnan(sqnr) else sqnr


def _rows(of: FixSummary) -> Iterator[Row]:
    before, after = of.before, of.after
    refused = f"{before.errors} refused by TensorRT" if before.errors else ""
    yield Row("findings", "" if before.findings is None else f"{before.findings:,}", f"{after.findings:,}", refused)
    old, new = before.int8, after.int8
    if old is not None and new is not None:
        yield Row("INT8 layers", f"{old.int8} of {old.weighted}", f"{new.int8} of {new.weighted}", new.source)
        unsized = f"and {new.unsized} tensors of unknown size" if new.unsized else ""
        yield Row("bytes between kernels", size(old.bytes), size(new.bytes), unsized)
        yield Row("kernels", f"{old.kernels:,}", f"{new.kernels:,}")
        yield Row("reformats", f"{old.reformats:,}", f"{new.reformats:,}", "kernels that only convert or copy")
    yield Row("activation pairs", f"{before.pairs:,}", f"{after.pairs:,}")
    if of.worst is not None:
        yield Row("worst bits lost", "", f"{max(of.worst.lost, 0):.2f}", f"at {of.worst.site}")
    if of.numbers is not None:
        yield Row("SQNR", "", of.numbers.value, of.numbers.meaning)
