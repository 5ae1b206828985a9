"""`told`: the applied findings as a repair reports them: each once, with what was done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..proposals.proposal import PlacePair
from ..rulekit.finding import Finding


def told(applied: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in order, each code and place once, with what was done in place of the rule's advice.

    A finding is applied again when a later stage finds another scale for its group, or when it gets the second of two
    pairs: then it has the last scale, or both pairs. A pair whose scale the data gave needs no calibration any more.
    """
    found: dict[tuple[str, str], Finding] = {}
    for finding in applied:
        first = found.get(finding.identity)
        if first is None:
            found[finding.identity] = finding
        elif finding.tie is not None:
            found[finding.identity] = replace(first, help=finding.help, bits_lost=finding.bits_lost)
        else:
            found[finding.identity] = replace(first, edits=(*first.edits, *finding.edits))
    return tuple(map(_done, found.values()))


def _done(finding: Finding) -> Finding:
    places = [edit for edit in finding.edits if isinstance(edit, PlacePair)]
    if len(places) < len(finding.edits) or not any(edit.calibrate for edit in places):
        return finding
    each = [
        f"give '{edit.tensor}' a pair with its measured scale"
        if edit.calibrate
        else f"read '{edit.tensor}' through its pair"
        for edit in places
    ]
    return replace(finding, help=", ".join(dict.fromkeys(each)))
