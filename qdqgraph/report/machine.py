"""JSON for programs and annotations for GitHub Actions; both are stable, JSON carries a format number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..engines.builders.prove import Proof
from ..fp16 import Fp16Model
from ..repair.rounds import Repair
from ..rulekit.finding import Finding
from ..verify.verification import Verification
from .engine import proof_entry

FORMAT = 1
"""Version of the JSON form."""


def finding_entry(finding: Finding) -> dict[str, Any]:
    """One finding as JSON."""
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "safety": finding.safety.value,
        "place": finding.place,
        "node": finding.node,
        "message": finding.message,
        "help": finding.help,
        "cost_bytes": finding.cost,
        "repairable": finding.repairable,
        "refused": finding.refused,
        "sites": list(finding.tie.sites) if finding.tie else [],
    }


def findings_json(found: Mapping[str, Sequence[Finding]]) -> str:
    """The findings of several files."""
    files = [{"file": path, "findings": [finding_entry(f) for f in findings]} for path, findings in found.items()]
    return json.dumps({"format": FORMAT, "files": files}, indent=1)


def result_json(
    path: str,
    out: str | None,
    result: Repair,
    verification: Verification | None,
    half: Fp16Model | None = None,
    proof: Proof | None = None,
) -> str:
    """A repair: what was applied, what is left, every changed scale, the numeric check, the engines."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "file": path,
        "written": out,
        "base_sha256": result.plan.base,
        "result_sha256": result.plan.result,
        "edits": len(result.plan.edits),
        "pairs": {
            "before": result.pairs_before,
            "after": result.pairs_after,
            "added": result.pairs_added,
            "removed": result.pairs_removed,
        },
        "groups": result.groups,
        "changes": [
            {"tensor": c.site, "own_scale": c.own, "new_scale": c.new, "bits_lost": c.lost} for c in result.changes
        ],
        "applied": [finding_entry(f) for f in result.applied],
        "left": [finding_entry(f) for f in result.left],
        "fp16": None if half is None else _half(half),
        "numeric_check": None if verification is None else _verification(verification),
        "engines": None if proof is None else proof_entry(proof),
    }
    return json.dumps(content, indent=1)


def _half(half: Fp16Model) -> dict[str, Any]:
    kept = [{"node": k.node, "op": k.op, "reason": k.reason} for k in half.kept]
    return {"casts": half.casts, "scale_change": half.scale_change, "stays_fp32": kept}


def _verification(verification: Verification) -> dict[str, Any]:
    outputs = {
        name: {"identical": a.identical, "sqnr_db": a.sqnr if math.isfinite(a.sqnr) else None}
        for name, a in verification.outputs.items()
    }
    return {
        "outputs": outputs,
        "samples": verification.samples,
        "data": "given" if verification.data else "noise",
        "note": verification.note,
    }


def github_lines(path: str, findings: Iterable[Finding]) -> Iterable[str]:
    """Workflow commands: https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""
    for f in findings:
        title = _escaped(f"{f.code} {f.name}", ",:")
        advice = f.refused or f.help
        message = _escaped(f"{f.place}: {f.message}" + (f"; {advice}" if advice else ""), "")
        yield f"::{f.severity.value} file={_escaped(path, ',:')},title={title}::{message}"


def _escaped(text: str, also: str) -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
