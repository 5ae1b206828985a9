"""Small networks, some of forms that tests/cases lack: element types, integer operators, subgraphs, functions."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx

from qdqgraph.model.text import parse
from qdqgraph.rulekit import Example, catalog

from .seeds import SIZE, seeds


@cache
def networks() -> tuple[onnx.ModelProto, ...]:
    """The graphs of tests/cases, of `networks.txt`, and of the examples of the rules, in a fixed order.

    Those that only a later onnx reads are left out.
    """
    found = list(seeds().models)
    texts = Path(__file__).with_suffix(".txt").read_text().split("\n\n")
    for rule in sorted(catalog.load(), key=lambda rule: rule.code):
        texts += [e.before if isinstance(e, Example) else e.model for e in rule.examples]
    for text in texts:
        try:
            found.append(parse(text))
        except Exception:  # noqa: BLE001 - onnx raises several
            continue
    return tuple(model for model in found if model.ByteSize() <= SIZE)
