"""Records of rules, and of what a rule does at a tensor, for `records`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ..authoring.why import Answer
from ..rulekit.finding import Safety, Severity
from ..rulekit.rule import Documentation, Example, Rule
from .text import source


@dataclass(frozen=True)
class RuleRecord:
    """One rule."""

    code: str
    name: str
    severity: Severity
    safety: Safety
    file: Annotated[str, Meta(description="Its file; of a built-in rule its path among the built-in rules.")]
    summary: Annotated[str, Meta(description="What is wrong, in one sentence.")]

    @classmethod
    def of(cls, rule: Rule) -> RuleRecord:
        """The record of a rule."""
        page = Documentation.of(rule)
        return cls(rule.code, rule.name, rule.severity, rule.safety, source(rule), page.summary)


@dataclass(frozen=True)
class RulesRecord:
    """The output of `qdqgraph rules list --json`."""

    rules: tuple[RuleRecord, ...]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> RulesRecord:
        """The record of rules."""
        return cls(tuple(map(RuleRecord.of, rules)))


@dataclass(frozen=True)
class ExampleRecord:
    """A model, as ONNX text, for which the rule reports a finding, or for a counterexample none."""

    title: str
    finds: Annotated[bool, Meta(description="Whether the rule reports a finding.")]
    before: str
    after: Annotated[str | None, Meta(description="The model after `fix` with this rule; null if it stays as it is.")]


@dataclass(frozen=True)
class RulePageRecord:
    """The output of `qdqgraph explain --json`: a rule with its documentation."""

    rule: RuleRecord
    why: Annotated[str, Meta(description="What TensorRT does with such a graph.")]
    when_not: Annotated[str, Meta(description='When the repair is not wanted; "" if always.')]
    source: Annotated[str, Meta(description="Links, or how it was measured.")]
    examples: tuple[ExampleRecord, ...]

    @classmethod
    def of(cls, rule: Rule) -> RulePageRecord:
        """The record of a rule's page."""
        page = Documentation.of(rule)
        examples = (
            ExampleRecord(each.title, True, each.before, each.after)
            if isinstance(each, Example)
            else ExampleRecord(each.title, False, each.model, None)
            for each in rule.examples
        )
        return cls(RuleRecord.of(rule), page.why, page.when_not, page.source, tuple(examples))


@dataclass(frozen=True)
class WhyRecord:
    """The output of `qdqgraph why --json`: what a rule does at a tensor."""

    code: str
    file: str
    at: str
    applies: Annotated[bool, Meta(description="Whether the rule reports the tensor.")]
    lines: Annotated[tuple[str, ...], Meta(description="Why, or why not, for reading.")]

    @classmethod
    def of(cls, code: str, file: str, at: str, answer: Answer) -> WhyRecord:
        """The record of an answer on the rule `code` at the tensor `at` of a file."""
        return cls(code, file, at, answer.applies, answer.lines)


@dataclass(frozen=True)
class VerdictRecord:
    """One check of a rule, or of a `codes.lock`."""

    code: Annotated[str, Meta(description='The rule; "" for a `codes.lock`.')]
    title: Annotated[str, Meta(description='The example, or "itself" for the rule.')]
    place: Annotated[str, Meta(description="The file, and the line if known.")]
    fault: Annotated[str, Meta(description='What is wrong; "" if the check passed.')]


@dataclass(frozen=True)
class TestedRecord:
    """The output of `qdqgraph rules test --json`."""

    passed: bool
    checks: tuple[VerdictRecord, ...]
