"""JSON, one document for all files; `FindingsRecord`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..records import FileRecord, FindingRecord, FindingsRecord, Int8Record, encoded
from . import Document, FileFindings


def render(files: Sequence[FileFindings]) -> Iterator[Document]:
    """The document, as `FindingsRecord`."""
    yield Document(encoded("findings", FindingsRecord(tuple(map(_record, files)))))


def _record(file: FileFindings) -> FileRecord:
    share = None if file.int8 is None else Int8Record.of(file.int8)
    return FileRecord(file.path, tuple(map(FindingRecord.of, file.here)), share, file.error)
