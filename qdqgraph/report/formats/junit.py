"""JUnit XML, for the test reports of GitLab, Jenkins and Azure DevOps.

A file is a test suite. A finding is a failed test, a rule without findings a passed one, and a file that cannot be
checked is a test with an error. The schema is that of Jenkins' xUnit plugin, which GitLab reads too.

Sources: https://github.com/jenkinsci/xunit-plugin (junit-10.xsd), https://docs.gitlab.com/ci/testing/unit_test_reports/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ...printable import printable
from ...rulekit.finding import Finding
from . import FileFindings


def render(files: Sequence[FileFindings]) -> Iterator[str]:
    """The document, line by line, in ASCII. Findings of other targets are left out."""
    suites = [_suite(file) for file in files]
    top = Element("testsuites", name="qdqgraph")
    for count in ("tests", "failures", "errors"):
        top.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    top.extend(suites)
    indent(top, " ")
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield from tostring(top, encoding="us-ascii").decode("ascii").splitlines()


def _suite(file: FileFindings) -> Element:
    found = {finding.code for finding in file.here}
    passed = [rule for rule in file.rules if rule.code not in found]
    counts = {"tests": len(file.here) + len(passed) + bool(file.error), "failures": len(file.here)}
    counts["errors"] = int(bool(file.error))
    suite = Element("testsuite", {"name": printable(file.path), **{name: str(n) for name, n in counts.items()}})
    if file.error:
        SubElement(_case(suite, file, "the file can be checked"), "error", message=printable(file.error))
    for finding in file.here:
        case = _case(suite, file, f"{finding.code} {finding.name} at {finding.place}")
        message = printable(finding.message)
        SubElement(case, "failure", type=finding.severity.value, message=message).text = _text(finding)
    for rule in passed:
        _case(suite, file, f"{rule.code} {rule.name}")
    if file.int8 is not None:
        SubElement(suite, "system-out").text = printable(file.int8.sentence)
    return suite


def _case(suite: Element, file: FileFindings, name: str) -> Element:
    model = PurePath(file.path).with_suffix("").as_posix()
    return SubElement(suite, "testcase", classname=printable(model), name=printable(name))


def _text(finding: Finding) -> str:
    """The place with its node, what is wrong, what it costs, and what to do."""
    parts = (f"{finding.place} ({finding.node}): {finding.message}", finding.price, finding.advice)
    return printable("; ".join(filter(None, parts)))
