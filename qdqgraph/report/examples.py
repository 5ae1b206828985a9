"""The graphs of a rule's examples, for pictures."""

from __future__ import annotations

from ..errors import ModelError, RuleError
from ..graph.graph import Graph
from ..model.text import parse
from ..rulekit.rule import Rule


def example_graph(rule: Rule, title: str, text: str) -> Graph:
    """The graph of an example of a rule.

    Raises:
        RuleError: its text cannot be parsed, or is no valid graph.
    """
    try:
        return Graph(parse(text))
    except (ValueError, ModelError) as error:
        where = f"{rule.file}: the example {title!r} of {rule.code}"
        raise RuleError(f"{where} is not valid: {error}; see: qdqgraph rules test {rule.file}") from error
