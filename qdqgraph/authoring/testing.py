"""A rule's examples as tests: what every rule must keep, derived from its examples and counterexamples.

    for rule in qdqgraph.rules():
        for verdict in qdqgraph.testing.verdicts(rule):
            assert not verdict.fault, verdict

A fault says which way a rule is wrong: noisy (speaks on a counterexample), missing (silent on an example), wrong
(applies something else than `after`), not pure (scanning changed something), not idempotent (speaks on its own
result), not undone (undo is not byte-identical), not exact (an exact rule changed a bit), broken (the example itself),
crashed, undocumented. `pytest --qdqgraph-rules PATH` and `qdqgraph rules test PATH` run the same.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx

from ..calibration import inputs
from ..errors import ModelError, QdqgraphError
from ..graph.graph import Graph
from ..model import runtime
from ..model.text import parse
from ..repair.options import Options
from ..repair.plan import Plan, digest
from ..repair.rounds import Repair, fix
from ..rulekit import catalog
from ..rulekit.finding import Safety
from ..rulekit.rule import Counterexample, Documentation, Example, Rule, scan
from ..verify import comparison

FACE = "qdqgraph.rulekit"
"""What rule files import; `qdqgraph` itself is allowed as well."""
LOSSY_FLOOR = 10.0
"""dB of SQNR that an example of a lossy rule must keep on noise: below, it is no quantization noise any more."""


@cache
def builtin_rules() -> tuple[Rule, ...]:
    """The rules that come with the package."""
    return catalog.load(installed=False)


@dataclass(frozen=True)
class Verdict:
    """What one check of a rule came to.

    Attributes:
        title: what was checked: an example by its title, or the rule itself.
        fault: what is wrong, first the word for it; "" where the rule keeps its word.
        place: the file, and the line where it is known.
    """

    title: str
    fault: str
    place: str


def verdicts(rule: Rule) -> Iterator[Verdict]:
    """Every check of a rule: of the rule itself, then one for each example and counterexample."""
    yield Verdict("itself", _itself(rule), str(rule.file))
    for example in rule.examples:
        yield Verdict(example.title, judge(rule, example), rule.place_of(example))


def judge(rule: Rule, example: Example | Counterexample) -> str:
    """An empty string where the rule keeps its word on the example, else the fault with what differs."""
    try:
        model = parse(example.model if isinstance(example, Counterexample) else example.before)
    except ValueError as error:
        return f"broken: {error}"
    graph = Graph(model)
    before = digest(model), _fingerprint(graph)
    try:
        found = fixable = scan(graph, [rule])
        if (digest(model), _fingerprint(graph)) != before:
            return "not pure: scanning changed the graph"
        if scan(graph, [rule]) != found:
            return "not pure: a second scan of the same graph finds something else"
    except QdqgraphError as error:
        return f"crashed: {error}"
    try:
        result = fix(model, [rule], Options(max_bits_lost=8))
    except ModelError as error:
        return f"broken: {error}"
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


def outside_imports(file: Path) -> tuple[str, ...]:
    """What a Python rule file imports beside qdqgraph, numpy and the standard library; none for a text rule."""
    if file.suffix != ".py":
        return ()
    allowed = {"qdqgraph", "numpy", *sys.stdlib_module_names}
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            deep = name.startswith("qdqgraph.") and name != FACE  # only the two public faces are kept stable
            found += [name] if deep or name.split(".")[0] not in allowed else []
        elif isinstance(node, ast.Import):
            found += [
                a.name
                for a in node.names
                if a.name.split(".")[0] not in allowed or (a.name.startswith("qdqgraph.") and a.name != FACE)
            ]
    return tuple(found)


def _itself(rule: Rule) -> str:
    """What is wrong with a rule apart from its examples."""
    page = Documentation.of(rule)
    if not page.summary.endswith("."):
        return f"undocumented: the first line is no sentence with a full stop: {page.summary!r}"
    if not page.why or not page.source:
        return "undocumented: say `Why:`, what TensorRT does, and `Source:`, where that is known from"
    if outside := outside_imports(rule.file):
        return (
            f"wrong: a rule imports `qdqgraph.rulekit`, numpy and the standard library only, not {', '.join(outside)}"
        )
    texts = [e.model if isinstance(e, Counterexample) else e.before for e in rule.examples]
    if len({" ".join(t.split()) for t in texts}) < len(texts):
        return "broken: two examples show the same model"
    taken = {r.code: r for r in builtin_rules()}.get(rule.code)
    if taken is not None and taken.file.resolve() != rule.file.resolve():
        return f"wrong: code {rule.code} is the built-in rule {taken.name}; give the rule its own"
    return ""


def _fingerprint(graph: Graph) -> tuple[object, ...]:
    """Everything of onnx-graphsurgeon's nodes that a rule could change behind the model's back."""
    return tuple(
        (
            n.op,
            n.name,
            tuple(t.name for t in n.inputs),
            tuple(t.name for t in n.outputs),
            tuple(map(str, n.attrs.items())),
        )
        for n in graph.nodes()
    )


def _applied(rule: Rule, example: Example, model: onnx.ModelProto, result: Repair) -> str:
    if example.after is None:
        return "wrong: `after` is None, but the rule applied:\n" + result.plan.diff() if result.applied else ""
    try:
        expected = parse(example.after)
    except ValueError as error:
        return f"broken: after: {error}"
    if not result.applied:
        refused = "; ".join(f.refused or f.safety.value for f in result.left)
        return f"missing: the rule applies nothing: {refused}"
    if canonical(expected) == canonical(model):
        return "broken: `after` is `before`"
    try:
        onnx.checker.check_model(result.model)
    except onnx.checker.ValidationError as error:
        return f"wrong: onnx.checker refuses the repair: {' '.join(str(error).split())}"
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
    return _safe(rule, model, result) if runtime.available() else ""


def _safe(rule: Rule, model: onnx.ModelProto, result: Repair) -> str:
    """What is wrong with the rule's safety label, on noise in ONNX Runtime; "" where the numbers bear it out."""
    feeds = inputs.noise(model, 4)
    try:
        exact, final = (comparison.compare(model, made, feeds, Path()) for made in (result.exact, result.model))
    except ModelError as error:
        return f"broken: {error}; define an operator that ONNX Runtime does not have as a function of the example"
    for name, agreement in exact.items():
        if not agreement.identical:
            return f"not exact: output {name} changes, SQNR {agreement.sqnr:.1f} dB"
    for name, agreement in final.items():
        if rule.safety is not Safety.EXACT and not agreement.sqnr >= LOSSY_FLOOR:
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
