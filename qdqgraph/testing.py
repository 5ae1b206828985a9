"""A rule's examples as tests: what every rule must keep, derived from its examples and counterexamples.

    for rule in qdqgraph.rules():
        for example in rule.examples:
            verdict = qdqgraph.testing.judge(rule, example)
            assert not verdict, verdict

Verdicts say which way a rule is wrong: noisy (speaks on a counterexample), missing (silent on an example), wrong
(applies something else than `after`), impure (scanning changed the model), not idempotent (speaks on its own
result), not undone (undo is not byte-identical), not exact (an exact rule changed a bit), broken (the example itself).
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx

from . import numerics
from .errors import QdqgraphError
from .finding import Safety
from .graph import Graph
from .plan import Plan, digest
from .repair import Options, Result, fix, scan
from .rule import Counterexample, Example, Rule

LOSSY_FLOOR = 10.0
"""dB of SQNR that an example of a lossy rule must keep on noise: below, it is no quantization noise any more."""


def parse(text: str) -> onnx.ModelProto:
    """A model from ONNX text, checked.

    Raises:
        ValueError: the text does not parse, or onnx.checker refuses the model.
    """
    try:
        model: onnx.ModelProto = onnx.parser.parse_model(text)
        onnx.checker.check_model(model)
    except (onnx.parser.ParseError, onnx.checker.ValidationError) as error:
        raise ValueError(str(error)) from error
    return model


def judge(rule: Rule, example: Example | Counterexample) -> str:
    """An empty string where the rule keeps its word on the example, else the verdict with what differs."""
    try:
        model = parse(example.model if isinstance(example, Counterexample) else example.before)
    except ValueError as error:
        return f"broken: {error}"
    before = digest(model)
    found = fixable = scan(Graph(model), [rule])
    if digest(model) != before:
        return "impure: scanning changed the model"
    try:
        result = fix(model, [rule], Options(max_bits_lost=8))
    except QdqgraphError as error:
        result, fixable = None, ()
        if isinstance(example, Counterexample) or example.after is not None:
            return f"wrong: {error}"
    speaks = bool(found) if result is None else bool(result.applied or result.left)
    if isinstance(example, Counterexample):
        return "noisy: " + "; ".join(f.message for f in fixable) if speaks else ""
    if not speaks:
        return "missing: the rule finds nothing"
    return "" if result is None else _applied(rule, example, model, result)


def _applied(rule: Rule, example: Example, model: onnx.ModelProto, result: Result) -> str:
    if example.after is None:
        return "wrong: `after` is None, but the rule applied:\n" + result.plan.diff() if result.applied else ""
    try:
        expected = parse(example.after)
    except ValueError as error:
        return f"broken: after: {error}"
    if not result.applied:
        return "missing: the rule applies nothing"
    if (ours := canonical(result.model)) != (theirs := canonical(expected)):
        return "wrong: the repair is not `after`\n" + "\n".join(
            difflib.unified_diff(
                theirs, ours, "after, as the example says", "after, as the rule repairs", lineterm="", n=2
            )
        )
    if result.left:
        return "not idempotent: " + "; ".join(f.message for f in result.left)
    plan = Plan.from_json(result.plan.to_json())
    if plan != result.plan:
        return "not undone: the plan does not survive JSON"
    if plan.inverse().apply(result.model).SerializeToString() != model.SerializeToString():
        return "not undone: undo is not byte-identical"
    return _safe(rule, model, result) if numerics.available() else ""


def _safe(rule: Rule, model: onnx.ModelProto, result: Result) -> str:
    for name, agreement in numerics.compare(model, result.model, numerics.noise(model, 4), Path()).items():
        if rule.safety is Safety.EXACT and not agreement.identical:
            return f"not exact: output {name} changes, SQNR {agreement.sqnr:.1f} dB"
        if rule.safety is Safety.LOSSY and not agreement.sqnr >= LOSSY_FLOOR:
            return f"wrong: output {name} keeps {agreement.sqnr:.1f} dB only"
    return ""


def canonical(model: onnx.ModelProto) -> list[str]:
    """The model's graph as lines that depend neither on the names of inner tensors and nodes nor on their order."""
    structure = {i.name: i.name for i in model.graph.input} | {"": ""}
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        values = ", ".join(map(str, array.reshape(-1)[:8])) + (
            f" ... {_hash(array.tobytes())}" if array.size > 8 else ""
        )
        structure[tensor.name] = f"{array.dtype}{list(array.shape)} {{{values}}}"
    depth: dict[str, int] = {}
    keyed: list[tuple[int, str, onnx.NodeProto]] = []
    for node in model.graph.node:
        below = 1 + max((depth.get(name, 0) for name in node.input), default=0)
        mark = _hash(_line(node, structure).encode())
        keyed.append((below, mark, node))
        for index, name in enumerate(node.output):
            depth[name] = below
            structure[name] = f"{mark}.{index}" if name else ""
    names = {name: text for name, text in structure.items() if name not in depth}
    lines: list[str] = []
    for place, (_, _, node) in enumerate(sorted(keyed, key=lambda k: k[:2])):
        made = ", ".join(f"%{place}.{i}" for i, name in enumerate(node.output) if name)
        lines.append(f"{made} = {_line(node, names)}")
        names.update((name, f"%{place}.{i}") for i, name in enumerate(node.output))
    return [*lines, "outputs " + ", ".join(names[o.name] for o in model.graph.output)]


def _line(node: onnx.NodeProto, names: Mapping[str, str]) -> str:
    """A node without its outputs: operator, attributes, inputs by other names."""
    bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    bare.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
    text = " ".join(onnx.printer.to_text(bare).split())
    return text.removeprefix("= ").removesuffix("()").strip() + f" ({', '.join(names[i] for i in node.input)})"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
