"""JSON, one document for all files; its schema is `report/schemas/findings.schema.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..records import FORMAT, FileRecord, FindingRecord, FindingsRecord, encoded
from . import FileFindings


def render(files: Sequence[FileFindings]) -> Iterator[str]:
    """The document, as `FindingsRecord`."""
    found = tuple(FileRecord(file.path, tuple(map(FindingRecord.of, file.here))) for file in files)
    yield encoded(FindingsRecord(FORMAT, found))
