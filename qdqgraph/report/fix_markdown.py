"""What `fix` and `quantize` did, as Markdown: for a pull request, or the summary of a job."""

from __future__ import annotations

from collections.abc import Iterator

from .markdown import code, listed, places, prose, table
from .summary.fixing import FixSummary

FEW = 3
"""The tensors that are named for a rule or a reason."""


def lines(found: FixSummary) -> Iterator[str]:
    """The section of a model: the table before and after, what was repaired by rule, what is left by reason."""
    yield from (f"## {code(found.path)}", "")
    yield from (f"**{prose(found.verdict)}.** {_written(found)}", "")
    rows = ((row.name, prose(row.before), prose(row.after), prose(row.note)) for row in found.rows)
    yield from table(("", "before!", "after!", ""), rows)
    for remark in found.remarks:
        yield from ("", f"{prose(remark)}.")
    if found.repaired:
        yield from ("", f"### Repaired ({found.count:,})", "")
        repaired = (
            (each.code, each.name, f"{len(each.findings):,}", places(each.findings, FEW)) for each in found.repaired
        )
        yield from table(("code", "rule", "findings!", "tensors"), repaired)
    if found.left:
        yield from ("", f"### Left ({found.remaining:,})", "")
        left = (
            (each.code, each.name, f"{len(each.findings):,}", prose(each.why), places(each.findings, FEW))
            for each in found.left
        )
        yield from table(("code", "rule", "findings!", "why", "tensors"), left)
        remaining = [finding for each in found.left for finding in each.findings]
        yield from ("", *listed(remaining, f"{found.remaining:,} that are left"))
    yield ""


def _written(found: FixSummary) -> str:
    if found.written is None:
        return "Dry run: nothing was written."
    plan = f", plan {code(found.plan)}" if found.plan else ""
    return f"Written: {code(found.written)}{plan}."
