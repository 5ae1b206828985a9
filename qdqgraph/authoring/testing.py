"""Runs the examples and counterexamples of a rule as tests.

    from qdqgraph.authoring.testing import verdicts
    for rule in qdqgraph.rules():
        for verdict in verdicts(rule):
            assert not verdict.fault, verdict

A fault begins with its kind: noisy (reports a counterexample), missing (does not report an example), wrong (the repair
differs from `after`), not pure (scanning changed the graph), not idempotent (reports its own repair), not undone (undo
is not byte-identical), not exact (the repair of an exact rule changed an output bit), broken (the example is invalid),
crashed, undocumented. `pytest --qdqgraph-rules PATH` and `qdqgraph rules test PATH` run the same tests.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx

from ..calibration.noise import noise
from ..errors import ModelError, QdqgraphError
from ..graph.graph import Graph
from ..model import runtime
from ..model.protos import is_standard, nested
from ..model.text import node_text, parse
from ..repair.options import Options
from ..repair.plan import Plan, digest
from ..repair.repair import Repair
from ..repair.rounds import fix
from ..repair.solver import EXACT_TIE
from ..rulekit import catalog
from ..rulekit.codes import LOCK, Lock
from ..rulekit.finding import Safety
from ..rulekit.rule import Counterexample, Documentation, Example, Rule, handled, scan
from ..rulekit.text import TextRule
from ..targets.target import DEFAULT, Target
from ..verify import comparison
from .partial import deepest

FACE = "qdqgraph.rulekit"
"""The module that rule files import; `qdqgraph` itself is allowed as well."""
LOSSY_FLOOR = 10.0
"""The minimum SQNR in dB of an example of a lossy rule on noise inputs; less is more than quantization noise."""


@cache
def builtin_rules() -> tuple[Rule, ...]:
    """Returns the rules of the package."""
    return catalog.load(installed=False)


@dataclass(frozen=True)
class Verdict:
    """The result of one check of a rule.

    Attributes:
        title: the title of the example, or "itself" for the rule.
        fault: the kind of fault with a description; "" if the check passed.
        place: the file, and the line if known.
    """

    title: str
    fault: str
    place: str


def verdicts(rule: Rule) -> Iterator[Verdict]:
    """Yields the verdict on the rule itself, then one for each example and counterexample."""
    yield Verdict("itself", _itself(rule), str(rule.file))
    for example in rule.examples:
        yield Verdict(example.title, judge(rule, example), rule.place_of(example))


def lock_verdicts(paths: Sequence[Path], rules: Sequence[Rule]) -> Iterator[Verdict]:
    """Yields a verdict for the `codes.lock` of each of these rule folders that has one: it lists exactly the rules."""
    for folder in (path for path in paths if (path / LOCK).is_file()):
        mine = [rule for rule in rules if rule.file.is_relative_to(folder)]
        faults = "; ".join(Lock.read(folder / LOCK).differences(mine))
        yield Verdict(LOCK, f"wrong: {faults}" if faults else "", str(folder / LOCK))


def judge(rule: Rule, example: Example | Counterexample) -> str:
    """Returns "" if the rule passes the example, otherwise the fault and the difference."""
    try:
        model = parse(example.model if isinstance(example, Counterexample) else example.before)
    except ValueError as error:
        return f"broken: {error}"
    target = example.target if isinstance(example, Example) else DEFAULT
    graph = Graph.opened(model, target=Target.named(target), keeps=handled([rule]))
    before = digest(model), _fingerprint(graph)
    try:
        found = fixable = scan(graph, [rule])
        if (digest(model), _fingerprint(graph)) != before:
            return "not pure: scanning changed the graph"
        if scan(graph, [rule]) != found:
            return "not pure: a second scan of the same graph gives other findings"
    except QdqgraphError as error:
        return f"crashed: {error}"
    try:
        result = fix(model, [rule], Options(max_bits_lost=8, target=target))
    except ModelError as error:
        return f"broken: {error}"
    except QdqgraphError as error:
        result, fixable = None, ()
        if isinstance(example, Counterexample) or example.after is not None:
            return f"wrong: {error}"
    fires = bool(found) if result is None else bool(result.applied or result.left)
    if isinstance(example, Counterexample):
        return "noisy: " + "; ".join(f.message for f in fixable) if fires else ""
    if not fires:
        partial = deepest(graph, rule) if isinstance(rule, TextRule) else ()
        return "\n".join(("missing: the rule finds nothing", *partial))
    return "" if result is None else _applied(rule, example, model, result)


def outside_imports(file: Path, seen: frozenset[Path] = frozenset()) -> tuple[str, ...]:
    """Returns the imports of a Python rule file, and of its helper modules that are not in `seen`, other than qdqgraph,
    numpy and the standard library."""
    if file.suffix != ".py" or not file.is_file() or file in seen:
        return ()
    allowed = {"qdqgraph", "numpy", *sys.stdlib_module_names}
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            if (
                node.level == 1
            ):  # helper modules beside the rule: `from ._helpers import name`, `from . import _helpers`
                parts = [node.module] if node.module else [a.name for a in node.names]
                found += [name for part in parts if not part.startswith("_")]
                found += [n for part in parts for n in outside_imports(file.with_name(f"{part}.py"), seen | {file})]
                continue
            deep = name.startswith("qdqgraph.") and name != FACE  # only the two public modules are stable
            found += [name] if deep or name.split(".")[0] not in allowed else []
        elif isinstance(node, ast.Import):
            found += [
                a.name
                for a in node.names
                if a.name.split(".")[0] not in allowed or (a.name.startswith("qdqgraph.") and a.name != FACE)
            ]
    return tuple(found)


def _itself(rule: Rule) -> str:
    """Returns the fault of a rule apart from its examples, or ""."""
    page = Documentation.of(rule)
    if not page.summary.endswith("."):
        return f"undocumented: the first line must be a sentence with a full stop, not {page.summary!r}"
    if not page.why or not page.source:
        return "undocumented: add `Why:` (what TensorRT does) and `Source:` (the evidence for it)"
    if outside := outside_imports(rule.file):
        return (
            "wrong: a rule may import `qdqgraph.rulekit`, numpy, the standard library and helpers beside it (`._NAME`) "
            f"only, not {', '.join(outside)}"
        )
    texts = [e.model if isinstance(e, Counterexample) else e.before for e in rule.examples]
    if len({" ".join(t.split()) for t in texts}) < len(texts):
        return "broken: two examples have the same model"
    taken = {r.code: r for r in builtin_rules()}.get(rule.code)
    if taken is not None and taken.file.resolve() != rule.file.resolve():
        return f"wrong: code {rule.code} belongs to the built-in rule {taken.name}; use another code"
    return ""


def _fingerprint(graph: Graph) -> tuple[object, ...]:
    """Returns everything in the onnx-graphsurgeon nodes that a rule could modify."""
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
    if any(f.refused == EXACT_TIE for f in result.left):
        return f"not exact: {EXACT_TIE}"
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
        return "broken: `after` equals `before`"
    try:
        onnx.checker.check_model(result.model)
    except onnx.checker.ValidationError as error:
        return f"wrong: onnx.checker rejects the repair: {' '.join(str(error).split())}"
    if (ours := canonical(result.model)) != (theirs := canonical(expected)):
        return "wrong: the repair differs from `after`\n" + "\n".join(
            difflib.unified_diff(theirs, ours, "after (expected)", "after (repaired)", lineterm="", n=2)
        )
    if result.left:
        return "not idempotent: " + "; ".join(f.message for f in result.left)
    if fault := _not_undone(model, result):
        return f"not undone: {fault}"
    return _safe(rule, model, result) if runtime.available() else ""


def _not_undone(model: onnx.ModelProto, result: Repair) -> str:
    """Returns why the plan of a repair cannot be saved and undone; "" if it can."""
    try:
        plan = Plan.from_json(result.plan.to_json())
        undone = plan.inverse().apply(result.model)
    except QdqgraphError as error:
        return str(error)
    if plan != result.plan:
        return "the plan does not survive JSON"
    return "" if undone.SerializeToString() == model.SerializeToString() else "undo is not byte-identical"


def _safe(rule: Rule, model: onnx.ModelProto, result: Repair) -> str:
    """Returns how the outputs in ONNX Runtime, on noise, contradict the rule's safety; "" if they do not."""
    feeds = noise(model, 4)
    try:
        exact, final = (comparison.compare(model, other, feeds, Path()) for other in (result.exact, result.model))
    except ModelError as error:
        if _repaired(model, result, feeds):
            return ""
        return f"broken: {error}; define operators that ONNX Runtime lacks as functions in the example"
    for name, agreement in exact.items():
        if not agreement.identical:
            return f"not exact: output {name} changes, SQNR {agreement.sqnr:.1f} dB"
    exactly = all(f.safety is Safety.EXACT for f in result.applied)
    for name, agreement in final.items():
        if exactly and not agreement.identical:
            return f"not exact: output {name} changes in a lossy stage, SQNR {agreement.sqnr:.1f} dB"
        if not agreement.sqnr >= LOSSY_FLOOR:
            return f"wrong: output {name} has an SQNR of {agreement.sqnr:.1f} dB only"
    return ""


def _repaired(model: onnx.ModelProto, result: Repair, feeds: Sequence[runtime.Feed]) -> bool:
    """Returns whether a model of ONNX's own operators, which ONNX Runtime rejects as the rule does, runs repaired."""
    if not all(is_standard(node) for top in model.graph.node for node in nested(top)):
        return False
    try:
        runtime.run(result.model, feeds, Path())
    except ModelError:
        return False
    return True


def canonical(model: onnx.ModelProto) -> list[str]:
    """Returns the graph as lines that do not depend on the names of inner tensors and nodes, or on their order."""
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
        outputs = ", ".join(f"%{place}.{i}" for i, name in enumerate(node.output) if name)
        lines.append(f"{outputs} = {_line(node, names)}")
        names.update((name, f"%{place}.{i}") for i, name in enumerate(node.output))
    return [*lines, "outputs " + ", ".join(names[o.name] for o in model.graph.output)]


def _line(node: onnx.NodeProto, names: Mapping[str, str]) -> str:
    """Returns a node as text without its outputs: operator, attributes, and inputs renamed by `names`."""
    bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    bare.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
    return (
        node_text(bare).removeprefix("= ").removesuffix("()").strip() + f" ({', '.join(names[i] for i in node.input)})"
    )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
