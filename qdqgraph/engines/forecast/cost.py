"""The cost of findings: the additional bytes that a forecast reads and writes at the tensors of a finding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
    excess = excess_of(engine)
    return tuple(replace(f, bytes=sum(excess.get(s, 0) for s in _sites(f)) or f.bytes) for f in findings)


def together(findings: Iterable[Finding], excess: Mapping[str, int]) -> int:
    """The bytes that priced findings cost together: those of each tensor once, and the estimates of the rules for
    findings of which the forecast counts none.

    Args:
        findings: findings with their `bytes`, see `priced`.
        excess: the bytes of each tensor, see `excess_of`.
    """
    counted: set[str] = set()
    estimated: dict[str, int] = {}
    for finding in findings:
        sites = {site for site in _sites(finding) if excess.get(site)}
        counted |= sites
        if not sites:
            estimated[finding.place] = max(finding.bytes, estimated.get(finding.place, 0))
    return sum(excess[site] for site in counted) + sum(estimated.values())


def _sites(finding: Finding) -> set[str]:
    """The tensors that a finding ties or quantizes, and its place."""
    sites = {finding.place} | set(finding.tie.sites if finding.tie is not None else ())
    return sites | {edit.tensor for edit in finding.edits if isinstance(edit, PlacePair)}


def excess_of(engine: Engine) -> dict[str, int]:
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
