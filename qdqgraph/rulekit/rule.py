"""`Rule`: one check with its documentation, its examples and its repair.

A rule is one class in one file. It reads a `Graph` and yields findings; it changes nothing. Its docstring is its page:
the first line says what is wrong, `Why:` what TensorRT does, `When not:` when the repair is not wanted, `Source:` the
evidence. Its examples are its tests (see `qdqgraph.authoring.testing`).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import onnx_graphsurgeon as gs

from ..errors import ProposalError
from ..graph.graph import Graph, key, label
from ..graph.pair import PER_CHANNEL
from ..model.protos import is_standard
from ..proposals.proposal import Proposal
from ..targets.target import DEFAULT
from .finding import Finding, Safety, Severity, Tie
from .proposed import proposals
from .running import findings

SECTIONS = ("Why", "When not", "Source")


@dataclass(frozen=True)
class Example:
    """A model, as ONNX text, for which the rule reports a finding.

    Attributes:
        title: what the example shows.
        before: the model as exported.
        after: the model after `fix` with this rule, up to the names of new tensors; None if nothing is repaired.
        target: the name of the TensorRT generation for which the rule reports it.
    """

    title: str
    before: str
    after: str | None = None
    target: str = DEFAULT


@dataclass(frozen=True)
class Counterexample:
    """A model, as ONNX text, for which the rule must report nothing."""

    title: str
    model: str


@dataclass(frozen=True)
class Documentation:
    """The parts of a rule's docstring: the first sentence, then `Why:`, `When not:` and `Source:`."""

    summary: str
    why: str
    when_not: str
    source: str

    @classmethod
    def of(cls, rule: Rule) -> Documentation:
        """Reads a rule's docstring."""
        summary, _, rest = (rule.__doc__ or "").strip().partition("\n")
        parts = re.split(rf"^\s*({'|'.join(SECTIONS)}):\s*", rest, flags=re.MULTILINE)
        texts = {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
        return cls(summary.strip(), texts.get("Why", ""), texts.get("When not", ""), texts.get("Source", ""))


class Rule(ABC):
    """Base of all rules; see the module's docstring."""

    code: str
    """Letters and three digits: 1xx scales, 2xx placement, 3xx fusion blockers, 4xx legality. Never reused."""
    name: str
    """The problem in kebab-case: "concat-scales-differ"."""
    safety: Safety
    """What applying the repair may change."""
    severity: Severity = Severity.WARNING
    """Error if TensorRT refuses the graph, or computes something else."""
    examples: Sequence[Example | Counterexample]
    """At least one example and one counterexample."""
    quantized: Sequence[str] = ()
    """Operators that count as quantized because this rule handles them, in addition to Q/DQ pairs: "acme.QuantConv" of
    one domain, "QuantConv" of any; globs are allowed. A model without any quantized operator is refused before rules
    run."""
    opset: int = PER_CHANNEL
    """The lowest standard opset in which the replacement of such operators can be written; `fix` raises a model that
    contains them to it."""
    by_target: bool = False
    """Whether the findings of the rule depend on the graph's target."""
    seconds: float = 8.0
    """The longest time of one scan; a rule that takes longer is stopped with an error. Built-in rules have no limit."""
    file: Path = Path()
    """The rule's file; set by the catalog."""

    @abstractmethod
    def find(self, graph: Graph) -> Iterator[Finding]:
        """Yields findings. Yield a tie wherever an operator needs one scale, even if the scales agree: the solver drops
        ties that hold."""

    def resolved(self, graph: Graph) -> Rule:
        """The rule for a run that repairs this graph: with the sites that it names looked up here, once.

        Raises:
            RuleError: it names something that the graph does not have.
        """
        return self

    def sites_of_paths(self, graph: Graph) -> Mapping[str, tuple[str, ...]]:
        """The PyTorch paths that a resolved rule names, with their sites in a repaired graph."""
        return {}

    def place_of(self, example: Example | Counterexample) -> str:
        """The place of one of the rule's examples, for a message: the file, and the line if known."""
        return str(self.file)

    def quantized_nodes(self, graph: Graph) -> tuple[gs.Node, ...]:
        """The nodes of the operators in `quantized`, in file order."""
        if not self.quantized:
            return ()
        operators = graph.once(_by_operator)
        names = [name for name in operators if any(_names(pattern, *name) for pattern in self.quantized)]
        return tuple(sorted((n for name in names for n in operators[name]), key=graph.position))

    def handles(self, domain: str, name: str) -> bool:
        """Whether the rule names an operator: a local function that defines it is then not inlined."""
        return any(_names(pattern, domain, name) for pattern in self.quantized)

    def finding(
        self,
        at: gs.Node,
        message: str,
        *,
        help: str = "",
        bytes: int = 0,
        bits_lost: float | None = None,
        tie: Tie | None = None,
        edits: Sequence[Proposal] = (),
        place: str = "",
        severity: Severity | None = None,
        safety: Safety | None = None,
    ) -> Finding:
        """A finding of this rule at a node.

        Args:
            at: the node.
            message, help: what is wrong, and what to do; figures go into `bytes` and `bits_lost`.
            bytes: bytes of activations that the defect costs in one run; 0 if unknown.
            bits_lost: the largest loss of resolution by the repair in bits; None if it changes no scale.
            tie, edits: the proposal, at most one of the two; without one the finding is `Safety.MANUAL`.
            place: the tensor of the finding, by default the node's first output. Report each place once: code and place
                identify a finding.
            severity, safety: by default the rule's.

        Raises:
            ProposalError: it has a tie and edits, or the edits are not a sequence.
        """
        if tie is not None and edits:
            raise ProposalError("a finding has a tie and edits, at most one is possible: yield two findings")
        safety = (safety or self.safety) if tie is not None or edits else Safety.MANUAL
        place = place or key(at)
        return Finding(
            self.code,
            self.name,
            severity or self.severity,
            safety,
            place,
            label(at),
            message,
            help,
            bytes,
            bits_lost,
            tie,
            proposals(edits),
        )


def handled(rules: Sequence[Rule]) -> Callable[[str, str], bool]:
    """Whether one of the rules names an operator, by its domain and name."""
    return lambda domain, name: any(rule.handles(domain, name) for rule in rules)


def _by_operator(graph: Graph) -> dict[tuple[str, str], list[gs.Node]]:
    """The graph's nodes by domain and operator; ONNX's own domain is ""."""
    found: dict[tuple[str, str], list[gs.Node]] = {}
    for node in graph.nodes():
        domain = "" if is_standard(node) else str(node.domain)
        found.setdefault((domain, str(node.op).removeprefix(f"{domain}.")), []).append(node)
    return found


def _names(pattern: str, domain: str, op: str) -> bool:
    """Whether an entry of `Rule.quantized` names an operator of a domain."""
    return fnmatchcase(f"{domain}.{op}" if domain and "." in pattern else op, pattern)


def scan(graph: Graph, rules: Sequence[Rule]) -> tuple[Finding, ...]:
    """All findings of the rules, in an order independent of theirs. Changes nothing.

    Raises:
        RuleError: a rule crashed, exceeded its limits, or proposes what the graph does not allow (QDQ901).
    """
    turn = sorted(rules, key=lambda rule: rule.code, reverse=True)  # QDQ420 copies the model: before others fill memory
    return tuple(sorted((f for rule in turn for f in findings(graph, rule)), key=lambda f: f.order))
