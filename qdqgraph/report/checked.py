"""`Checked`: what `check` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from ..engines.share import Int8Share
from ..errors import counted
from ..rulekit.finding import Finding

if TYPE_CHECKING:
    from .formats import FileFindings


@dataclass(frozen=True, repr=False)
class Checked(Sequence[Finding]):
    """The findings of a model, as a sequence, and what of it runs in INT8.

    Attributes:
        file: the model, as it was given; "model.onnx" for one in memory.
        findings: the findings; those of other targets last.
        int8: what runs in INT8, by the forecast for the requested target.
    """

    file: str
    findings: tuple[Finding, ...]
    int8: Int8Share

    @overload
    def __getitem__(self, index: int) -> Finding: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...

    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def repairable(self) -> tuple[Finding, ...]:
        """The findings that `fix` repairs."""
        return tuple(finding for finding in self.findings if finding.repairable and not finding.target)

    def summary(self) -> str:
        """The text of `qdqgraph check`."""
        from . import formats  # each way of showing a result loads what it needs
        from .notebook import plain

        return plain(lambda console: formats.show("text", console, [self._as_file()]))

    def to_json(self) -> str:
        """The document of `qdqgraph check --json`; its schema is `report/schemas/findings.schema.json`."""
        from .formats import json

        return str(next(iter(json.render([self._as_file()]))))

    def _as_file(self) -> FileFindings:
        from .formats import FileFindings

        return FileFindings(self.file, self.findings, self.int8)

    def __repr__(self) -> str:
        found = f"{counted(len(self), 'finding')}, {len(self.repairable)} repairable"
        return f"<Checked {self.file!r}: {found}; {self.int8.sentence}>"

    def _repr_html_(self) -> str:
        """One row per code: findings, how many of them `fix` repairs, and the bytes that they cost in a run."""
        from .notebook import table

        codes = sorted({(finding.code, finding.name) for finding in self})
        rows = []
        for code, name in codes:
            own = [finding for finding in self if finding.code == code]
            rows.append((code, name, len(own), sum(f in self.repairable for f in own), sum(f.bytes for f in own)))
        head = ("code", "rule", "findings", "repairable", "bytes a run")
        return table(f"{self.file}: {counted(len(self), 'finding')}", head, rows, [self.int8.sentence])
