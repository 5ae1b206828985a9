"""`Checked`: what `check` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from ..engines.layers import Engine
from ..engines.share import Int8Share
from ..errors import counted
from ..repair.rehearsal import Rehearsal
from ..rulekit.finding import Finding, Severity
from .examined import Examined


@dataclass(frozen=True, repr=False)
class Checked(Sequence[Finding]):
    """The findings of a model, as a sequence, and what of it runs in INT8.

    Attributes:
        file: the model, as it was given; "model.onnx" for one in memory.
        findings: the findings; those of other targets last.
        known: the graph with its groups, and its forecast.
        rehearsal: what a repair would do; None unless `rehearse` asked for it.
        after: what would run in INT8 after it; None if there was none, or it failed.
    """

    file: str
    findings: tuple[Finding, ...]
    known: Examined
    rehearsal: Rehearsal | None = None
    after: Int8Share | None = None

    @overload
    def __getitem__(self, index: int) -> Finding: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...

    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def target(self) -> str:
        """The name of the requested target, "trt-10"."""
        return self.known.target.name

    @property
    def engine(self) -> Engine:
        """The forecast for the requested target."""
        return self.known.engine

    @property
    def int8(self) -> Int8Share:
        """What runs in INT8, by the forecast for the requested target."""
        return Int8Share.of(self.engine, (f.code for f in self.known.findings if f.severity is Severity.ERROR))

    @property
    def repairable(self) -> tuple[Finding, ...]:
        """The findings that `fix` repairs."""
        return tuple(finding for finding in self.findings if finding.repairable and not finding.target)

    def summary(self) -> str:
        """The text of `qdqgraph check`."""
        from .notebook import plain  # each way of showing a result loads what it needs
        from .screens import checking as screen
        from .summary import checking

        found = checking.summary(self.file, self)
        return plain(lambda console: screen.show(console, found, screen.Detail.NORMAL))

    def to_json(self) -> str:
        """The document of `qdqgraph check --json`; its schema is `report/schemas/findings.schema.json`."""
        from .formats import FileFindings, json

        return str(next(iter(json.render([FileFindings.of(self)]))))

    def __repr__(self) -> str:
        found = f"{counted(len(self), 'finding')}, {len(self.repairable)} repairable"
        return f"<Checked {self.file!r}: {found}; {self.int8.sentence}>"

    def _repr_html_(self) -> str:
        """The verdict, and a row per rule, those that cost most first."""
        from .notebook import table
        from .summary import checking, words

        found = checking.summary(self.file, self)
        head = ("code", "rule", "findings", "repairable", "bytes a run", "share")
        rows = [
            (row.code, row.name, row.findings, row.repairable, row.bytes, words.percent(row.share))
            for row in found.codes
        ]
        return table(f"{self.file}: {found.verdict}", head, rows, [found.total])
