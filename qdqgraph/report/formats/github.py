"""Annotations of GitHub Actions.

Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import Command, FileFindings


def render(files: Sequence[FileFindings]) -> Iterator[Command]:
    """A workflow command for each finding and each file that cannot be checked, and one for what runs in INT8: a
    warning if nothing does."""
    for file in files:
        if file.error:
            yield Command(f"::error file={_escaped(file.path, ',:')}::{_escaped(file.error, '')}")
        for finding in file.here:
            title = _escaped(f"{finding.code} {finding.name}", ",:")
            parts = (f"{finding.place}: {finding.message}", finding.price, finding.advice)
            message = _escaped("; ".join(filter(None, parts)), "")
            yield Command(f"::{finding.severity.value} file={_escaped(file.path, ',:')},title={title}::{message}")
        if file.int8 is not None:
            level, title = "warning" if file.int8.warning else "notice", _escaped("INT8, by the forecast", ",:")
            yield Command(
                f"::{level} file={_escaped(file.path, ',:')},title={title}::{_escaped(file.int8.sentence, '')}"
            )


def _escaped(text: str, also: str) -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
