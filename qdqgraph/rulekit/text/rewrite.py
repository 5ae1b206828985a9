"""`Rewrite`: the replacement of a text rule's pattern, as a function of the same signature.

A line of the rewrite with the label (or first output) and the operator of a line of the pattern refers to that node,
which keeps its name, attributes and metadata. Other lines are new nodes. `y = Identity (x)` for an output lets the
readers of y read x. Nodes of the pattern without a remaining reader are removed; nodes that something else reads stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx

from ...graph.graph import Graph, Reader, key, label
from ...model.protos import fresh
from ...operators import PAIRS
from ...proposals.nodes import make_constant
from ...proposals.proposal import Graft, Rewire
from ...toml.file import TextError
from ..proposed import tensor_names
from .computed import Computed
from .match import Match, default_attribute
from .pattern import Pattern, PatternNode


@dataclass(frozen=True)
class Rewrite:
    """A pattern with its replacement."""

    pattern: Pattern
    result: Pattern
    computed: Mapping[str, Computed] = field(default_factory=dict)
    """Parameters that are constants computed for each match."""

    @classmethod
    def parse(
        cls, text: str, pattern: Pattern, ops: Mapping[str, Sequence[str]], computed: Mapping[str, Computed]
    ) -> Rewrite:
        """Reads the replacement.

        Raises:
            TextError: it does not parse, has another signature, uses an unbound attribute, or creates a node with a
                name from `ops`, which means several operators.
        """
        result = Pattern.parse(text, ops=ops, optional=pattern.optional, variadic=pattern.variadic)
        for ours, theirs, what in (
            (result.inputs, (*pattern.inputs, *computed), "parameters"),
            (result.outputs, pattern.outputs, "outputs"),
        ):
            unknown = set(ours) - set(theirs) if what == "parameters" else set(ours) ^ set(theirs)
            if unknown:
                raise TextError(f"the {what} of pattern and rewrite differ: {', '.join(sorted(unknown))}")
        if unbound := set(result.attributes) - set(pattern.attributes):
            raise TextError(f"the pattern binds no attribute @{min(unbound)}")
        if unused := set(computed) - set(result.inputs):
            raise TextError(f"the rewrite does not use the computed {min(unused)!r}: add it to its parameters")
        rewrite = cls(pattern, result, computed)
        for index, node in enumerate(result.nodes):
            if node.op in ops and index not in rewrite.kept:
                raise TextError(f"'{node}': which of {', '.join(ops[node.op])}? Give it the label of a pattern's node")
            lost = None if index in rewrite.kept or node.ops & PAIRS else rewrite._lost(node)
            if lost is not None:
                raise TextError(
                    f"'{node}' is a new node without the attributes of '{lost}': refer to that node by its label, "
                    f"[{lost.label}] {node}, or write the attributes"
                )
        return rewrite

    @cached_property
    def kept(self) -> Mapping[int, int]:
        """Line of the rewrite → the node of the pattern that it refers to."""
        known = {(n.label, n.op, n.domain): i for i, n in enumerate(self.pattern.nodes)}
        found = {j: known.get((n.label, n.op, n.domain)) for j, n in enumerate(self.result.nodes)}
        return {j: i for j, i in found.items() if i is not None}

    def _lost(self, new: PatternNode) -> PatternNode | None:
        """A node of the pattern that a new line without attributes replaces, and whose attributes would be lost."""
        if new.attributes or new.parameters or not _has_attributes(new):
            return None
        gone = (n for i, n in enumerate(self.pattern.nodes) if i not in self.kept.values())
        return next((n for n in gone if (n.op, n.domain) == (new.op, new.domain)), None)

    @cached_property
    def same(self) -> frozenset[int]:
        """Nodes of the pattern that the rewrite leaves unchanged, and whose inputs it leaves unchanged."""
        same: set[int] = set()
        for j, i in self.kept.items():
            ours, theirs = self.result.nodes[j], self.pattern.nodes[i]
            lines = ours.inputs == theirs.inputs and ours.outputs == theirs.outputs
            plain = all(ours.parameters.get(n) == v for n, v in theirs.parameters.items()) or not ours.parameters
            made = [self.pattern.made.get(v) for v in theirs.inputs]
            if lines and plain and not ours.attributes and all(m is None or m in same for m in made):
                same.add(i)
        return frozenset(same)

    @cached_property
    def private(self) -> frozenset[str]:
        """Inner variables that nothing outside the match may read, because they change or are removed.

        A node that the rewrite only omits stays for its other readers, unless its inputs change.
        """
        rebuilt = {i for i in self.kept.values() if i not in self.same}
        ends = {self.pattern.made[v] for v in self.pattern.outputs} - set(self.kept.values())
        touched = {v for i in rebuilt | ends for v in self.pattern.nodes[i].outputs}
        for index, node in enumerate(self.pattern.nodes):
            if index not in self.same and any(v in touched for v in node.inputs):
                touched.update(node.outputs)
        return frozenset(touched & self.pattern.inner)

    def refuses(self, graph: Graph, match: Match) -> str:
        """Why the rewrite cannot replace this match; "" if it can."""
        inside = {id(n) for n in match.nodes.values()}
        for variable in sorted(self.private):
            tensor = match.tensor(variable)
            outside = [r.node for r in graph.readers(tensor) if id(r.node) not in inside or r.index < 0]
            if tensor in graph.outputs:
                return f"'{tensor}' would change, but is a graph output"
            if outside:
                return f"'{tensor}' would change, but '{label(outside[0])}' outside the pattern also reads it"
        values = (expression.value(graph, match) for expression in self.computed.values())
        return next((value for value in values if isinstance(value, str)), "")

    def graft(self, graph: Graph, match: Match) -> Graft:
        """The replacement for one match."""
        place = match.tensor(self.pattern.outputs[0])
        own = self._fresh(graph, match, place)
        names = {**match.tensors, **{v: (name,) for v, name in own.items()}}
        renamed = self._renamed(graph, match)
        written = [j for j in range(len(self.result.nodes)) if self.kept.get(j) not in self.same and j not in renamed]
        still_made = set(self.pattern.outputs) - {self.result.nodes[j].outputs[0] for j in renamed}
        rebuilt = [i for i in self.kept.values() if i not in self.same]
        dropped = [i for i in range(len(self.pattern.nodes)) if i not in self.kept.values()]
        taken = [i for i in dropped if still_made & set(self.pattern.nodes[i].outputs)]
        values = {own[v]: expression.value(graph, match) for v, expression in self.computed.items()}
        constants = [make_constant(name, np.asarray(value)).SerializeToString() for name, value in values.items()]
        return Graft(
            nodes=(*constants, *(self._node(graph, match, j, names).SerializeToString() for j in written)),
            new=(
                *range(len(constants)),
                *(n for n, j in enumerate(written, len(constants)) if j not in self.kept),
            ),
            fresh=tuple(own.values()),
            replaced=tuple(key(match.nodes[i]) for i in (*rebuilt, *taken)),
            unread=tuple(key(match.nodes[i]) for i in dropped if i not in taken),
            rewires=tuple(
                Rewire(reader.key, names[self.result.nodes[j].inputs[0]][0])
                for j, rs in renamed.items()
                for reader in rs
            ),
            reads=tuple((key(n), slot) for n in match.nodes.values() for slot in range(len(n.inputs))),
        )

    def _fresh(self, graph: Graph, match: Match, place: str) -> dict[str, str]:
        """The names of new inner tensors by variable. None is that of a tensor of the match, which the new nodes may
        read."""
        inner = [v for n in self.result.nodes for v in n.outputs if v and v not in self.pattern.variables]
        inner = [*self.computed, *inner]
        named = {v: f"{place}_{v}" for v in inner}
        read = {t.name for n in match.nodes.values() for t in (*n.inputs, *n.outputs)}
        read |= {name for n in match.nodes.values() for name in graph.proto(n).input}
        if read.isdisjoint(named.values()):
            return named
        taken = set(graph.once(tensor_names))
        return {v: fresh(name, taken) for v, name in named.items()}

    def _renamed(self, graph: Graph, match: Match) -> dict[int, tuple[Reader, ...]]:
        """Lines `y = Identity (x)` for outputs of the pattern, with the readers of y that then read x.

        If y is a graph output, or a subgraph reads it, the line becomes a node.
        """
        found: dict[int, tuple[Reader, ...]] = {}
        for j, node in enumerate(self.result.nodes):
            if node.op == "Identity" and j not in self.kept and node.outputs[0] in self.pattern.outputs:
                made = match.tensor(node.outputs[0])
                readers = graph.readers(made)
                if made not in graph.outputs and all(r.index >= 0 for r in readers):
                    found[j] = readers
        return found

    def _node(self, graph: Graph, match: Match, index: int, names: Mapping[str, tuple[str, ...]]) -> onnx.NodeProto:
        line = self.result.nodes[index]
        new = onnx.NodeProto()
        old = self.kept.get(index)
        if old is not None:
            new.CopyFrom(graph.proto(match.nodes[old]))
        else:
            new.op_type, new.domain = line.op, line.domain
            if line.ops & PAIRS and (lost := self._lost(line)) is not None:  # the axis of its scales
                new.attribute.extend(graph.proto(match.nodes[self.pattern.nodes.index(lost)]).attribute)
        inputs = [n for v in line.inputs for n in (names[v] if v else ("",))]
        if old is not None:
            inputs = self._unmoved(graph, match, old, line, inputs, new)
        while inputs and not inputs[-1]:
            inputs.pop()
        del new.input[:], new.output[:]
        new.input.extend(inputs)
        new.output.extend(n for v in line.outputs for n in (names[v] if v else ("",)))
        written = {**line.attributes, **{n: match.attributes[v] for n, v in line.parameters.items()}}
        if old is None:  # what the matched node omits has the default of its operator, not of the new one
            written.update(
                (n, self._default(graph, match, line.parameters[n])) for n, a in written.items() if a is None
            )
        _set_attributes(new, written)
        return new

    def _default(self, graph: Graph, match: Match, variable: str) -> onnx.AttributeProto | None:
        """ONNX's default of an attribute that a matched node omits; None if there is none."""
        for index, line in enumerate(self.pattern.nodes):
            for name in (n for n, v in line.parameters.items() if v == variable):
                return default_attribute(match.nodes[index], name, graph.opset)
        return None

    def _unmoved(
        self,
        graph: Graph,
        match: Match,
        old: int,
        line: PatternNode,
        inputs: Sequence[str],
        before: onnx.NodeProto,
    ) -> list[str]:
        """Inputs with the same variable as before keep their tensor, as another constant may have the same value."""
        theirs = self.pattern.nodes[old]
        if len(inputs) != len(line.inputs) or set(theirs.inputs) & self.pattern.variadic:
            return list(inputs)
        straight = [match.tensors[v][0] if v else "" for v in theirs.inputs]
        order = list(before.input) + [""] * (len(theirs.inputs) - len(before.input))
        seen = [graph.source(name) for name in order]
        swapped = len(order) == 2 and straight == seen[::-1] != seen
        order = order[::-1] if swapped else order
        made = [
            order[slot] if slot < len(theirs.inputs) and theirs.inputs[slot] == v else name
            for slot, (v, name) in enumerate(zip(line.inputs, inputs, strict=True))
        ]
        return made[::-1] if swapped else made


def _has_attributes(line: PatternNode) -> bool:
    """Whether the operator of a line may have attributes; one of another domain may."""
    if line.domain:
        return True
    return onnx.defs.has(line.op) and bool(onnx.defs.get_schema(line.op).attributes)


def _set_attributes(node: onnx.NodeProto, written: Mapping[str, onnx.AttributeProto | None]) -> None:
    kept = [a for a in node.attribute if a.name not in written]
    del node.attribute[:]
    node.attribute.extend([*kept, *_named(written)])


def _named(written: Mapping[str, onnx.AttributeProto | None]) -> Iterable[onnx.AttributeProto]:
    for name, attribute in written.items():
        if attribute is not None:
            copy = onnx.AttributeProto()
            copy.CopyFrom(attribute)
            copy.name = name
            yield copy
