"""Checks what a rule yields: findings with proposals that fit the graph.

A rule that names a tensor, node or input that the graph does not have, or writes a name instead of a sequence of names,
is stopped at that line, and nothing is carried out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set
from typing import Any

import onnx

from ..errors import ProposalError, RuleError, counted, guess
from ..graph.graph import Graph, Node, key
from ..model.protos import names, nested, reads, subgraphs
from ..proposals.proposal import Constant, Graft, NodeInput, PlacePair, Proposal, Retype, Rewire, SetPair
from .finding import Finding, Safety, Severity, Tie
from .policy import Policy, unknown_anchor

ITEMS = {
    "Rewire": "Rewire(…)",
    "Retype": "Retype(…)",
    "PlacePair": "PlacePair(…)",
    "SetPair": "SetPair(…)",
    "Graft": "replace(…)",
}
"""How each proposal is written, for messages."""


def tensor_names(graph: Graph) -> Set[str]:
    """Returns the names of all tensors of the graph, those of subgraphs included."""
    found = set(names(graph.model.graph))
    found.discard("")
    return found


def check(graph: Graph, found: Finding) -> None:
    """Checks a finding of a rule against the graph in which the rule found it.

    Raises:
        ProposalError: it is no finding, or its place or proposal does not fit the graph; with what to write.
    """
    if not isinstance(found, Finding):
        raise ProposalError(f"find yields {_shown(found)}; write: yield self.finding(node, message)")
    if not isinstance(found.message, str) or not isinstance(found.help, str):
        raise ProposalError(f"message and help are text, not {_shown(found.message)} and {_shown(found.help)}")
    if not isinstance(found.severity, Severity) or not isinstance(found.safety, Safety):
        raise ProposalError(f"severity is a Severity and safety a Safety, not {found.severity!r} and {found.safety!r}")
    if isinstance(found.bytes, bool) or not isinstance(found.bytes, int) or found.bytes < 0:
        raise ProposalError(f"bytes is {_shown(found.bytes)}; write the number of bytes, 0 if unknown")
    _tensor(graph, found.place, "the place of a finding is")
    if found.tie is not None and found.edits:
        raise ProposalError("a finding has a tie and edits, at most one is possible: yield two findings")
    if found.tie is not None:
        _check_tie(graph, found.tie)
    for edit in found.edits:
        if not isinstance(edit, Proposal):
            raise ProposalError(f"an edit is {_shown(edit)}; write {', '.join(ITEMS.values())}")
        _check_edit(graph, edit)
    _check_dropped(graph, found.edits)


def proposals(edits: Any) -> tuple[Proposal, ...]:
    """Returns the edits of a finding as a tuple.

    Raises:
        ProposalError: they are a single edit, or text.
    """
    if isinstance(edits, (str, *Proposal.__args__)) or not isinstance(edits, Iterable):
        raise ProposalError(f"edits is {_shown(edits)}; write a list: edits=[…]")
    return tuple(edits)


def work(found: Finding) -> int:
    """Returns how large a finding is: itself, its edits, and their new nodes."""
    return 1 + sum(1 + len(edit.nodes) if isinstance(edit, Graft) else 1 for edit in found.edits)


def _check_tie(graph: Graph, tie: Tie) -> None:
    if not isinstance(tie, Tie):
        raise ProposalError(f"tie is {_shown(tie)}; write tie=Tie(sites)")
    for site in _sequence(tie.sites, "the sites of a Tie"):
        _tensor(graph, site, "a Tie names")
    if not tie.sites:
        raise ProposalError("a Tie names no tensors; write one or more")
    if tie.max_bits_lost is not None and not (
        isinstance(tie.max_bits_lost, int | float) and 0 <= tie.max_bits_lost < math.inf
    ):
        raise ProposalError(f"max_bits_lost of a Tie is {_shown(tie.max_bits_lost)}; write a number of bits, 0 or more")
    if tie.policy is None:
        return
    if not isinstance(tie.policy, str):
        raise ProposalError(f"the policy of a Tie is {_shown(tie.policy)}; write text, such as 'output'")
    try:
        fault = unknown_anchor(graph, Policy.parse(tie.policy))
    except RuleError as error:
        raise ProposalError(f"a Tie has an {error}") from error
    if fault:
        raise ProposalError(f"a Tie has the {fault}")


def _check_edit(graph: Graph, edit: Proposal) -> None:
    if isinstance(edit, Rewire | Retype):
        _reader(graph, edit.reader, edit)
        if isinstance(edit, Rewire):
            _tensor(graph, edit.tensor, "a Rewire names")
        elif edit.kind not in onnx.TensorProto.DataType.values():
            raise ProposalError(f"a Retype names the type {_shown(edit.kind)}; write an onnx.TensorProto data type")
    elif isinstance(edit, PlacePair):
        for name in (edit.tensor, *_sequence(edit.agree, "agree of a PlacePair"), *filter(None, [edit.like])):
            _tensor(graph, name, "a PlacePair names")
        for reader in _sequence(edit.readers, "the readers of a PlacePair"):
            _reader(graph, reader, edit)
    elif isinstance(edit, SetPair):
        for name in _sequence(edit.nodes, "the nodes of a SetPair"):
            _node(graph, name, edit)
        if not isinstance(edit.scale, Constant) or not isinstance(edit.zero_point, Constant):
            raise ProposalError("scale and zero_point of a SetPair are Constants; write Constant.of(array)")
    else:
        _check_graft(graph, edit)


def _check_graft(graph: Graph, edit: Graft) -> None:
    known, made = graph.once(tensor_names), set[str]()
    for name in (*edit.replaced, *edit.unread):
        _node(graph, name, edit)
    for rewire in edit.rewires:
        _reader(graph, rewire.reader, edit)
    gone = {t.name for name in edit.replaced for t in graph.node(name).outputs if t.name}
    for node in map(onnx.NodeProto.FromString, edit.nodes):
        inner = {name for n in nested(node) for name in n.output}
        for name in reads(node):
            if name in made or name in inner - set(node.output):
                continue
            if name in gone:
                raise ProposalError(
                    f"the new {node.op_type} consumes '{name}', an output of a node that it replaces: produce it "
                    "first, or consume another tensor"
                )
            if name not in known and not any(True for _ in subgraphs(node)):
                raise ProposalError(
                    f"the new {node.op_type} consumes '{name}', which is not a tensor of the model"
                    f"{guess(name, known) or ' or of an earlier new node'}"
                )
        made.update(filter(None, node.output))


def _check_dropped(graph: Graph, edits: Sequence[Proposal]) -> None:
    """Checks that a finding leaves no consumer of a replaced node without its tensor."""
    grafts = [edit for edit in edits if isinstance(edit, Graft)]
    replaced = {name for edit in grafts for name in (*edit.replaced, *edit.unread)}
    made = {name for edit in grafts for data in edit.nodes for name in onnx.NodeProto.FromString(data).output}
    moved = {edit.reader for edit in edits if isinstance(edit, Rewire)}
    moved |= {rewire.reader for edit in grafts for rewire in edit.rewires}
    moved |= {reader for edit in edits if isinstance(edit, PlacePair) for reader in edit.readers}
    for name in (name for edit in grafts for name in edit.replaced):
        for tensor in graph.node(name).outputs:
            if not tensor.name or tensor.name in made:
                continue
            left = [r for r in graph.readers(tensor.name) if key(r.node) not in replaced and r.key not in moved]
            who = "a graph output" if tensor.name in graph.outputs else f"input of {left[0].node.op}" if left else ""
            if who:
                raise ProposalError(
                    f"replace() removes the producer of '{tensor.name}', which is {who}, and no new node produces it: "
                    "give one of them this output"
                )


def _reader(graph: Graph, reader: NodeInput, edit: Proposal) -> None:
    what = type(edit).__name__
    if not (isinstance(reader, tuple) and len(reader) == 2 and isinstance(reader[0], str)):
        raise ProposalError(f"{what}: {_shown(reader)} is not a node input; write reader.key, or (key(node), index)")
    name, index = reader
    node = _node(graph, name, edit)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(node.inputs):
        why = "a subgraph captures the tensor" if index == -1 else f"it has {counted(len(node.inputs), 'input')}"
        raise ProposalError(f"{what}: '{name}' ({node.op}) has no input {_shown(index)}: {why}")


def _node(graph: Graph, name: str, edit: Proposal) -> Node:
    node = graph.producer(name) if isinstance(name, str) else None
    if node is None:
        raise ProposalError(f"{type(edit).__name__}: no node has the first output {_shown(name)}; write key(node)")
    return node


def _tensor(graph: Graph, name: Any, what: str) -> None:
    """Checks that a name is that of a tensor of the graph.

    Raises:
        ProposalError: it is not.
    """
    known = graph.once(tensor_names)
    if not isinstance(name, str):
        raise ProposalError(f"{what} {_shown(name)}; write the name of a tensor")
    if name not in known:
        raise ProposalError(f"{what} {_shown(name)}, which is not a tensor of the model{guess(name, known)}")


def _sequence(value: Any, what: str) -> tuple[Any, ...]:
    """Returns the items of a sequence.

    Raises:
        ProposalError: it is text, or no sequence.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ProposalError(f"{what} are {_shown(value)}; write a tuple: ({_shown(value)},)")
    return tuple(value)


def _shown(value: Any) -> str:
    """Returns a value as short text."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
