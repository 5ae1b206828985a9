"""A finding, and what a format prints of findings."""

from io import StringIO

from rich.console import Console

from qdqgraph.report import formats
from qdqgraph.report.formats import FileFindings
from qdqgraph.rulekit import Finding, Safety, Severity

FOUND = Finding(
    code="QDQ401",
    name="zero-point-not-zero",
    severity=Severity.ERROR,
    safety=Safety.LOSSY,
    place="q",
    node="Quantize",
    message="the zero-point of 'x' is 3",
    help="quantize symmetrically",
    bytes=12345,
    bits_lost=1.0056,
)


def printed(name: str, *files: FileFindings) -> str:
    """What the format `name` prints of files."""
    console = Console(file=StringIO(), width=200)
    formats.show(name, console, files)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
