"""One line per finding, for reading: file, place, code, what is wrong, what it costs, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from ..lines import finding_line, share_line
from . import FileFindings


def render(files: Sequence[FileFindings]) -> Iterator[str | Text]:
    """A line for each finding, one for each other target with further findings, and one for what runs in INT8."""
    for file in files:
        yield from (finding_line(file.path, finding) for finding in file.here)
        for target, (first, *more) in file.elsewhere.items():
            rest = f" and {len(more)} more" if more else ""
            yield f"{file.path}: on {target}, not here: {first.place}: {first.code} {first.message}{rest}"
        if file.int8 is not None:
            yield share_line(file.path, file.int8.sentence, file.int8)
