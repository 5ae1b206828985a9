"""A page for each rule, generated from the rule: documentation, pattern, diagrams and examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..rulekit.rule import Counterexample, Documentation, Example, Rule
from ..rulekit.text import TextRule
from ..targets.target import DEFAULT, Target
from .drawing import Drawing, svg
from .examples import example_graph
from .text import dedented, source

BANDS = {"1": "Scales", "2": "Placement", "3": "Fusion", "4": "Legality"}
"""The meaning of the first digit of a code."""
SAFETY = {
    "exact": "every output stays bit-identical in ONNX Runtime",
    "lossy": "outputs change within quantization noise, up to a limit in bits",
    "manual": "reported only; the repair needs data or a decision that the graph does not contain",
}
MADE = "<!-- Generated from the rule file by `qdqgraph rules pages`: edit the rule, not this page. -->"


def pages(rules: Iterable[Rule]) -> Mapping[str, str]:
    """File names and their contents: README.md, CODE.md, CODE-1.svg …"""
    found: dict[str, str] = {}
    rows = []
    for rule in rules:
        pictures = {f"{rule.code}-{n}.svg": _picture(rule, e) for n, e in enumerate(_examples(rule), start=1)}
        found |= pictures
        found[f"{rule.code}.md"] = "\n".join(_page(rule)) + "\n"
        rows.append(rule)
    found["README.md"] = "\n".join(_index(rows)) + "\n"
    return found


def _examples(rule: Rule) -> list[Example]:
    return [e for e in rule.examples if isinstance(e, Example)]


def _picture(rule: Rule, example: Example) -> str:
    parts = [("before", example.before)] + ([("after", example.after)] if example.after else [])
    return svg([(title, Drawing.of(example_graph(rule, example.title, text))) for title, text in parts])


def _page(rule: Rule) -> Iterator[str]:
    page = Documentation.of(rule)
    yield from (f"# {rule.code} {rule.name}", "", MADE, "", page.summary, "")
    yield f"- Safety: **{rule.safety.value}**: {SAFETY[rule.safety.value]}."
    yield f"- Severity: {rule.severity.value}."
    yield f"- {'Text' if isinstance(rule, TextRule) else 'Python'} rule: `{source(rule)}`."
    for title, text in (("Why", page.why), ("When not", page.when_not), ("Source", page.source)):
        if text:
            yield from ("", f"## {title}", "", text)
    if isinstance(rule, TextRule) and rule.pattern.nodes:
        yield from ("", "## Pattern", "", *_pattern(rule))
    for number, example in enumerate(_examples(rule), start=1):
        yield from ("", f"## Example: {example.title}", "")
        if example.target != DEFAULT:
            yield from (f"For {Target.named(example.target).title}.", "")
        if example.after is None:
            yield from ("Reported only; nothing is applied.", "")
        yield f"![{'before and after' if example.after else 'the model'}]({rule.code}-{number}.svg)"
        yield from ("", "Before:", "", *_indented(example.before))
        if example.after:
            yield from ("", "After:", "", *_indented(example.after))
    for counter in (e for e in rule.examples if isinstance(e, Counterexample)):
        yield from ("", f"## Counterexample: {counter.title}", "", *_indented(counter.model))


def _pattern(rule: TextRule) -> Iterator[str]:
    data = rule.source.data
    yield from _indented(data.pattern)
    if data.rewrite:
        yield from ("", "is replaced by", "", *_indented(data.rewrite))
    for _, tie in rule.ties:
        yield from ("", "One scale for: " + ", ".join(f"`{name}`" for name in tie.sites) + ".")
    if data.where:
        yield from ("", "Conditions: " + ", ".join(f"`{condition}`" for condition in data.where) + ".")


def _index(rules: list[Rule]) -> Iterator[str]:
    yield from ("# Rules", "", MADE, "", "Safety:", "")
    yield from (f"- **{name}**: {text}." for name, text in SAFETY.items())
    for band, title in BANDS.items():
        mine = [r for r in rules if next(c for c in r.code if c.isdigit()) == band]
        if mine:
            yield from ("", f"## {title}", "", "| code | name | safety | finds |", "| --- | --- | --- | --- |")
            yield from (
                f"| [{r.code}]({r.code}.md) | {r.name} | {r.safety.value} | {Documentation.of(r).summary} |"
                for r in mine
            )


def _indented(text: str) -> Iterator[str]:
    return (f"    {line}" for line in dedented(text))
