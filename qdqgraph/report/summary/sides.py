"""A repaired model beside the given one: counts, the numeric check, and the table before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...engines.share import Int8Share
from ...errors import counted
from ...repair.corrections import Correction
from ...repair.solution import Change
from ...verify.verification import Sides, Verification
from .words import bits_lost, decibels, size

if TYPE_CHECKING:
    from ..results import Result

FAR = 10.0
"""Below this SQNR in dB against float values on both sides, quantization fails on the inputs: no value is typical."""
NEARER = 3.0
"""The least difference in dB that makes one side the noisy one: twice the noise power."""


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
        caution: what the figure is not, and why it shows little, to be appended; "" if there is nothing to say.
        skipped: why nothing was compared; "" otherwise.
        sides: the distances of that output from the float values; None if they were not compared.
    """

    db: float | None
    output: str
    identical: int
    outputs: int
    against: str
    inputs: str
    caution: str
    skipped: str
    sides: Sides | None

    @property
    def value(self) -> str:
        """The figure: "41.2 dB", "bit-identical", "not compared"."""
        if self.db is None:
            return "not compared"
        return "bit-identical" if self.identical == self.outputs else decibels(self.db)

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


def numbers(check: Verification, *, floats: bool = False) -> Numbers:
    """Returns the numeric check in one line; outputs that show nothing, such as empty ones, count for nothing.

    Args:
        check: the numeric check.
        floats: the given model is a float network.
    """
    given = "the float network" if floats else "the unrepaired model"
    shown = {name: each for name, each in check.outputs.items() if not each.blank}
    blank = not shown and not check.skipped
    worst = min(shown, key=lambda name: (_db(shown[name].sqnr), name), default="")
    caveat = shown[worst].caveat if worst else ""
    return Numbers(
        db=shown[worst].sqnr if worst else None,
        output=worst,
        identical=sum(each.identical for each in shown.values()),
        outputs=len(shown),
        against=given if check.reference == "the input" else check.reference,
        inputs=f"{counted(check.samples, 'sample')} of your data" if check.data else "random inputs",
        caution="; ".join(filter(None, ("" if check.data else ": not an accuracy figure; give --data", caveat))),
        skipped="every output is empty, constant, NaN, or independent of the inputs" if blank else check.skipped,
        sides=check.floats.get(worst),
    )


def _db(sqnr: float) -> float:
    return -math.inf if math.isnan(sqnr) else sqnr


def rows(result: Result, before: Side, after: Side, checked: Numbers | None) -> Iterator[Row]:
    """Yields the rows of the table before and after.

    Args:
        result: the repair.
        before: the given model.
        after: the repaired model.
        checked: the numeric check; None if it was not asked for.
    """
    refused = f"TensorRT refused the file for {before.errors:,}" if before.errors else ""
    yield Row("findings", "" if before.findings is None else f"{before.findings:,}", f"{after.findings:,}", refused)
    old, new = before.int8, after.int8
    if old is not None and new is not None:
        source = new.source + ("; before: as if TensorRT accepted the file" if before.errors else "")
        yield Row(f"{new.kind} layers", f"{old.int8} of {old.weighted}", f"{new.int8} of {new.weighted}", source)
        note = f"with {counted(new.undecided, 'fusion')} that TensorRT decides by timing" if new.undecided else ""
        yield Row("bytes between kernels", _bytes(old), _bytes(new), note)
        yield Row("kernels", f"{old.kernels:,}", f"{new.kernels:,}")
        yield Row("reformats", f"{old.reformats:,}", f"{new.reformats:,}", "kernels that only convert or copy")
    added = f"{result.pairs_added:,} added, {result.pairs_removed:,} removed"
    yield Row("activation pairs", f"{before.pairs:,}", f"{after.pairs:,}", added)
    if result.groups:
        yield Row("groups with one scale", "", f"{result.groups:,}")
    yield from _lost(result)
    yield from _start(result)
    for done in result.corrections:
        yield _correction(done)
    if checked is not None and result.numbers is not None:
        yield Row("SQNR", "", checked.value, checked.meaning)
        if checked.sides is not None:
            yield _sides(checked.sides)


def by_loss(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Returns changed scales, the largest loss first."""
    return tuple(sorted(changes, key=lambda change: (-change.lost, change.site)))


def _lost(result: Result) -> Iterator[Row]:
    """Resolution that scales lose by ties, and by repairs of what TensorRT refuses."""
    if result.changes:
        worst = by_loss(result.changes)[0]
        yield Row(
            "worst bits lost",
            "",
            bits_lost(worst.lost),
            f"of {counted(len(result.changes), 'changed scale')}, at {worst.site}",
        )
    legal = [f.bits_lost for f in result.applied if f.tie is None and f.bits_lost]
    if legal:
        yield Row("bits lost by legality", "", f"{max(legal):.2f}", f"at most, at {counted(len(legal), 'tensor')}")


def _start(result: Result) -> Iterator[Row]:
    """The inlined functions and the raised opset."""
    if result.functions:
        yield Row("functions inlined", "", f"{len(result.functions)}", ", ".join(result.functions))
    if result.opset is not None:
        yield Row("opset", f"{result.opset.before}", f"{result.opset.after}", result.opset.why)


def _correction(done: Correction) -> Row:
    """What a step on data did, and what that changes at the outputs."""
    examined = counted(done.examined, done.noun)
    if done.gain is None:
        return Row(done.name, "", "0", f"of {examined}: it helps none on the held-back samples")
    gain = f"outputs {done.gain.before:.1f} -> {done.gain.after:.1f} dB on the held-back samples"
    if not done.kept:
        fault = "not better" if done.gain.strict else "worse"
        return Row(
            done.name, "", "0", f"not applied: {gain}, {fault} by more than the noise of {done.gain.noise:.2f} dB"
        )
    return Row(done.name, "", f"{len(done.layers)}", f"of {examined}; {gain}")


def _bytes(share: Int8Share) -> str:
    """The bytes of a forecast; at least so many if sizes are unknown."""
    return f"{'>' if share.unsized else ''}{size(share.bytes)}"


def _sides(sides: Sides) -> Row:
    """Which of the two models is nearer to the float values."""
    if max(sides.original, sides.repaired) < FAR:
        note = "both are far, so these inputs tell little; give typical ones with --data"
    elif abs(sides.repaired - sides.original) <= NEARER:
        note = ""
    else:
        note = f"the {'given' if sides.repaired > sides.original else 'repaired'} model is the noisy side"
    return Row("SQNR to float values", decibels(sides.original), decibels(sides.repaired), note)
