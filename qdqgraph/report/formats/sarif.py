"""SARIF 2.1.0, one run for all files: for GitHub code scanning, Azure DevOps and IDEs.

Sources: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html, and for what GitHub reads of it
https://docs.github.com/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from textwrap import shorten
from typing import Any, Final
from urllib.parse import quote

from ... import __version__
from ...rulekit.finding import Finding
from ...rulekit.rule import Documentation, Rule
from ..records import Int8Record
from . import Document, FileFindings

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT: Final = "primaryLocationLineHash"
"""The only fingerprint that GitHub reads; it adds the rule and the path of the file itself."""
LINK: Final = re.compile(r"https?://[^\s,;)\"]+")
LONGEST: Final = 1024
"""Characters of a description that GitHub shows."""
ROOT: Final = "%SRCROOT%"
"""The base of relative paths: the consumer, not this file, says which folder that is."""


def render(files: Sequence[FileFindings]) -> Iterator[Document]:
    """The log. Findings of other targets are left out; what runs in INT8 is a property of each artifact."""
    yield Document(json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(files)]}, indent=1))


def _run(files: Sequence[FileFindings]) -> Mapping[str, Any]:
    rules = {rule.code: rule for file in files for rule in file.rules}
    first = {finding.code: finding for file in files for finding in file.here}
    codes = {code: index for index, code in enumerate(sorted(first))}
    driver = {
        "name": "qdqgraph",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(first[code], rules.get(code)) for code in codes],
    }
    success = not any(file.error for file in files)
    return {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": success, "toolExecutionNotifications": list(_notifications(files))}],
        "artifacts": [_artifact(file) for file in files],
        "results": [result for index, file in enumerate(files) for result in _results(file, index, codes)],
        "columnKind": "unicodeCodePoints",
    }


def _rule(finding: Finding, rule: Rule | None) -> Mapping[str, Any]:
    """The descriptor of a code; with what the rule's page says if the rule is known."""
    found: dict[str, Any] = {"id": finding.code, "name": finding.name}
    if rule is None:
        return found
    page = Documentation.of(rule)
    sections = [(t, s) for t, s in (("Why", page.why), ("When not", page.when_not), ("Source", page.source)) if s]
    more = f"More, with examples: qdqgraph explain {rule.code}"
    found["shortDescription"] = {"text": _message(page.summary)}
    found["fullDescription"] = {"text": _message(shorten(f"{page.summary} {page.why}", LONGEST, placeholder=" …"))}
    found["help"] = {
        "text": _message("\n\n".join([page.summary, *(f"{title}: {text}" for title, text in sections), more])),
        "markdown": "\n\n".join([page.summary, *(f"**{title}**: {text}" for title, text in sections), more]),
    }
    if link := LINK.search(page.source):
        found["helpUri"] = link[0].rstrip(".")
    found["defaultConfiguration"] = {"level": rule.severity.value}
    found["properties"] = {"safety": rule.safety.value, "tags": ["quantization", "tensorrt"]}
    return found


def _artifact(file: FileFindings) -> Mapping[str, Any]:
    found: dict[str, Any] = {"location": _location(file.path), "roles": ["analysisTarget"]}
    if file.int8 is not None:
        found["properties"] = {"int8": asdict(Int8Record.of(file.int8))}
    return found


def _notifications(files: Sequence[FileFindings]) -> Iterator[Mapping[str, Any]]:
    """What `check` says of a file besides its findings: that it cannot be checked, or nothing of it runs in INT8."""
    for index, file in enumerate(files):
        where = {"physicalLocation": {"artifactLocation": {**_location(file.path), "index": index}}}
        if file.error:
            yield {"level": "error", "message": {"text": _message(file.error)}, "locations": [where]}
        if file.int8 is not None and file.int8.warning:
            yield {"level": "warning", "message": {"text": _message(file.int8.sentence)}, "locations": [where]}


def _results(file: FileFindings, artifact: int, codes: Mapping[str, int]) -> Iterator[Mapping[str, Any]]:
    seen: Counter[tuple[str, str]] = Counter()
    for finding in file.here:
        seen[finding.identity] += 1
        parts = (f"{finding.place}: {finding.message}", finding.price, finding.advice)
        numbers = {"costBytes": finding.bytes, "bitsLost": finding.bits_lost}
        yield {
            "ruleId": finding.code,
            "ruleIndex": codes[finding.code],
            "level": finding.severity.value,
            "message": {"text": _message("; ".join(filter(None, parts)))},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {**_location(file.path), "index": artifact},
                        "region": {"startLine": 1},  # a model has no lines, but GitHub requires one
                    },
                    "logicalLocations": [
                        {"name": finding.place, "fullyQualifiedName": finding.place, "kind": "tensor"},
                        {"name": finding.node, "fullyQualifiedName": finding.node, "kind": "node"},
                    ],
                }
            ],
            "partialFingerprints": {FINGERPRINT: f"{_digest(finding)}:{seen[finding.identity]}"},
            "properties": {
                **{name: value for name, value in numbers.items() if value is not None},
                "safety": finding.safety.value,
                "repairable": finding.repairable,
            },
        }


def _digest(finding: Finding) -> str:
    """16 hexadecimal digits of the code and the place: equal in every run, whatever the message and the figures."""
    return sha256("\0".join(finding.identity).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _location(path: str) -> Mapping[str, str]:
    """The artifact location of a file: relative to the folder of the run, if the file is in it."""
    file = Path(path)
    if file.is_absolute():
        if not file.is_relative_to(Path.cwd()):
            return {"uri": file.as_uri()}
        file = file.relative_to(Path.cwd())
    return {"uri": quote(os.fsencode(file.as_posix())), "uriBaseId": ROOT}


def _message(text: str) -> str:
    """The text of a message: braces are placeholders there, and `[text](address)` is a link that nobody wrote."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")
