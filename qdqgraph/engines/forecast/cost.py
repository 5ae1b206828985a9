"""The cost of findings: the additional bytes that a forecast reads and writes at the tensors of a finding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from ...proposals.proposal import PlacePair
from ...rulekit.finding import Finding
from ..layers import Engine, Tensor
from .stored import FLOATS


def priced(findings: Iterable[Finding], engine: Engine) -> tuple[Finding, ...]:
    """The findings with `bytes` from this forecast; if it counts none, with the rule's own estimate.

    It counts the reformats of the tensors that a finding ties or quantizes, and the additional bytes of reading and
    writing them in floating point, compared to INT8. Findings about the same tensor share these bytes, so they do not
    add up.
    """
    excess = _excess(engine)
    return tuple(_priced(finding, excess) for finding in findings)


def _priced(finding: Finding, excess: dict[str, int]) -> Finding:
    sites = {finding.place} | set(finding.tie.sites if finding.tie is not None else ())
    sites |= {edit.tensor for edit in finding.edits if isinstance(edit, PlacePair)}
    return replace(finding, bytes=sum(excess.get(site, 0) for site in sites) or finding.bytes)


def _excess(engine: Engine) -> dict[str, int]:
    """For each tensor, the bytes of its reformats, and its bytes beyond INT8 in all layers that read or write it."""
    found: dict[str, int] = defaultdict(int)
    for layer in engine.layers:
        if layer.cause:
            for name in {t.name for t in layer.inputs}:
                found[name] += layer.bytes
        else:
            for tensor in (*layer.inputs, *layer.outputs):
                found[tensor.name] += _beyond_int8(tensor)
    return found


def _beyond_int8(tensor: Tensor) -> int:
    return tensor.bytes - replace(tensor, precision="INT8").bytes if tensor.precision in FLOATS.values() else 0
