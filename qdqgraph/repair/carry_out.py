"""Carries out one round of accepted findings on a `Draft`.

Groups come first: all pairs of a group that changes or grows share one scale initializer. Placements and rewirings
follow, at most one per node input and round; a finding that conflicts waits for the next round.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import onnx

from ..graph.amax import scale_within
from ..graph.constants import Constants
from ..graph.graph import Graph, key
from ..graph.pair import HALF, Pair, Pairs, pairs
from ..graph.sites import only_quantized
from ..proposals.proposal import Constant, Graft, NodeInput, PlacePair, Retype, Rewire, SetPair, changed, touched
from ..rulekit.finding import Finding
from .draft import Draft
from .originals import ORIGINAL, originals
from .reals import type_name
from .solution import Group, Solution

Rounding = tuple[float, str]
"""The quantization of a pair: its scale, and the type of its integers."""


class Scales:
    """The scale of each site after a solution: its group's scale, its own if it has no group, or a measured one."""

    def __init__(self, graph: Graph, solution: Solution) -> None:
        self.graph, self.solution = graph, solution

    def at(self, site: str) -> np.ndarray | None:
        """Returns the site's scale; None if it has no scale, or several."""
        group = self.solution.group(site)
        if group is not None and group.scale is not None:
            return group.scale
        own = pairs(self.graph).at(site)
        if own:
            return own[0].scale if all(p.same_quantization(own[0]) for p in own) else None
        scale = None if self.solution.measured is None else self.solution.measured.scale([site])
        if scale is None:
            return None
        kind = self.graph.dtype(site)
        return np.array(scale_within(scale, type_name(kind)) if kind in HALF else scale, np.float32)

    def source(self, edit: PlacePair) -> tuple[str, bool]:
        """Returns the site whose scale a new pair gets, and whether that scale agrees with the sites in `edit.agree`.

        The site is "" if none has a scale. The scale agrees if every Q that the values reach has this scale already,
        so that the new pair causes no additional rounding.
        """
        like = edit.like or edit.tensor
        source = next((site for site in (like, *edit.agree) if self.at(site) is not None), "")
        found = self._roundings(like).union(*(self.reached.get(site) or self._roundings(site) for site in edit.agree))
        if not source and edit.agree and len(found) == 1:
            source = self._first_downstream(edit.agree)
        scale = self.at(source) if source else None
        downstream = {value for value, _ in found}
        return source, len(found) <= 1 and (scale is None or not edit.agree or downstream <= {float(scale)})

    @cached_property
    def reached(self) -> dict[str, frozenset[Rounding]]:
        """The quantizations of all Qs that a tensor's raw values reach, by closed tensor.

        At most two are kept, because only one or several matters.
        """
        found: dict[str, frozenset[Rounding]] = {}
        for tensor, following in only_quantized(self.graph).items():
            reached = self._roundings(tensor).union(*(found[output] for output in following))
            found[tensor] = frozenset(list(reached)[:2])
        return found

    def _roundings(self, site: str) -> frozenset[Rounding]:
        """Returns the quantizations of the site's pairs; several if they differ and no group joins them."""
        mine = pairs(self.graph).at(site)
        scale = self.at(site)
        if scale is None:
            return frozenset((p.value, p.types[1]) for p in mine)
        return frozenset((float(scale), p.types[1]) for p in mine)

    def _first_downstream(self, tensors: Sequence[str]) -> str:
        """Returns the first site downstream of these tensors that has a scale, or ""."""
        pending, seen = list(tensors), set[str]()
        while pending:
            tensor = pending.pop(0)
            if self.at(tensor) is not None:
                return tensor
            if tensor not in seen:
                seen.add(tensor)
                pending.extend(only_quantized(self.graph).get(tensor, ()))
        return ""


def carry_out(
    graph: Graph, solution: Solution, findings: Sequence[Finding], *, exact: bool
) -> tuple[onnx.ModelProto, list[Finding]]:
    """Carries out the findings; returns the new model and the findings that were applied.

    Args:
        graph: the graph of this round; it is not modified.
        solution: the groups of sites with one scale.
        findings: the accepted findings.
        exact: change no scale (the solution then contains only groups that agree).
    """
    if not findings:
        return graph.model, []
    graph.keep(Pairs, Constants)  # a draft takes as much memory as the tables
    round_ = _Round(graph, solution)
    done: list[Finding] = []
    if not exact:
        done += [f for f in findings if f.tie is not None]
        for group in solution.groups:
            if not group.agreed and group.scale is not None:
                round_.share(group)
        round_.record_originals()
    done += [f for f in findings if f.edits and round_.carry_out(f)]
    return (round_.draft.finish() if done else graph.model), done


class _Round:
    def __init__(self, graph: Graph, solution: Solution) -> None:
        self.graph, self.solution = graph, solution
        self.scales = Scales(graph, solution)
        self.draft = Draft(graph.model, graph)
        self.taken: set[NodeInput] = set()
        self.relied: set[NodeInput] = set()
        self.shared: dict[int, tuple[str, str]] = {}
        self.placed: dict[tuple[str, float], str] = {}
        self.zero_points: dict[Constant, str] = {}

    def carry_out(self, finding: Finding) -> bool:
        """Applies all edits of a finding, or none and returns False if an earlier finding changed one of its inputs."""
        wanted = [reader for edit in finding.edits for reader in touched(edit)]
        changes = [reader for edit in finding.edits for reader in changed(edit)]
        if any(reader in self.taken for reader in wanted) or any(reader in self.relied for reader in changes):
            return False
        self.taken.update(changes)
        self.relied.update(wanted)
        for edit in finding.edits:
            if isinstance(edit, SetPair):
                self.write(edit)
                continue
            if isinstance(edit, Retype):
                self.draft.set_type(edit.reader, edit.kind)
                continue
            if isinstance(edit, Graft):
                self.draft.graft(edit, finding.code)
                continue
            tensor = edit.tensor if isinstance(edit, Rewire) else self.place(edit, finding.code)
            for reader in touched(edit):
                self.draft.set_input(reader, tensor)
        return True

    def place(self, edit: PlacePair, code: str) -> str:
        """Returns the output of a pair on the tensor with the requested scale: an existing pair, or a new one."""
        source, _ = self.scales.source(edit)
        scale = self.scales.at(source)
        assert scale is not None, "a placement without a scale was refused earlier"
        where = (edit.tensor, float(scale))
        if where not in self.placed:
            mine = [p for p in pairs(self.graph).at(edit.tensor) if p.tensor == edit.tensor and p.dequantizes]
            after = self.scales.at(edit.tensor)
            fits = mine and after is not None and float(after) == float(scale)
            self.placed[where] = key(mine[0].dequantizes[0]) if fits else self.new_pair(edit.tensor, source, code)
        return self.placed[where]

    def new_pair(self, tensor: str, like: str, code: str) -> str:
        """Adds a pair after the tensor's producer with the scale of the site `like`; returns its output."""
        group = self.solution.group(like)
        if group is not None and group.scale is not None:
            scale, zero_point = self.share(group)
        else:
            scale, zero_point = self._constants(like, list(pairs(self.graph).at(like)), self.scales.at(like))
        sites = (like,) if group is None else group.sites
        usual = frozenset[str]().union(*(p.scale_types for s in sites for p in pairs(self.graph).at(s)))
        return self.draft.add_pair(tensor, self.draft.scale_for(tensor, scale, usual), zero_point, code)

    def write(self, edit: SetPair) -> None:
        """Sets a pair's scale, zero-point, axis and integers; equal zero-points share one initializer."""
        tensor = self.graph.node(edit.nodes[0]).inputs[0].name
        scale = self._kept_scale(edit) or self.draft.add_constant(f"{tensor}_scale", edit.scale.array)
        if edit.zero_point not in self.zero_points:
            zero_point = edit.zero_point.array
            name = f"{'zero' if not zero_point.any() else tensor}_{zero_point.dtype}"
            self.zero_points[edit.zero_point] = self.draft.add_constant(name, zero_point)
        integers = None
        if edit.integers is not None:
            integers = self.draft.add_constant(f"{tensor}_integers", edit.integers.array)
        kinds = {self.graph.dtype(self.graph.node(node).inputs[1].name) for node in edit.nodes}
        for node in edit.nodes:
            own = self.draft.as_read((node, 1), scale) if len(kinds) > 1 else scale
            self.draft.set_parameters(node, own, self.zero_points[edit.zero_point], edit.axis)
            if integers is not None and self.graph.node(node).op == "DequantizeLinear":
                self.draft.set_input((node, 0), integers)

    def _kept_scale(self, edit: SetPair) -> str:
        """Returns the scale initializer that the pair's nodes share if it has the requested value, or ""."""
        names = {self.graph.node(node).inputs[1].name for node in edit.nodes}
        name = names.pop()
        array = self.graph.array(name) if not names and name in self.graph.initializers else None
        return name if array is not None and Constant.of(array) == edit.scale else ""

    def share(self, group: Group) -> tuple[str, str]:
        """Connects all pairs of a group to one scale and one zero-point initializer; returns their names."""
        if id(group) not in self.shared:
            assert group.scale is not None
            members = [p for s in group.sites for p in pairs(self.graph).at(s)]
            self.shared[id(group)] = self._constants(group.anchor or group.sites[0], members, group.scale)
            self._merge(members)
        return self.shared[id(group)]

    def _merge(self, members: Sequence[Pair]) -> None:
        """Merges the QuantizeLinears of one tensor that a tie made equal; their DequantizeLinears stay."""
        first: dict[str, str] = {}
        for pair in members:
            if pair.quantize is None or pair.pinned:
                continue
            kept = first.setdefault(pair.tensor, key(pair.quantize))
            for dequantize in pair.dequantizes:
                self.draft.set_input((key(dequantize), 0), kept)

    def _constants(self, name: str, members: Sequence[Pair], scale: np.ndarray | None = None) -> tuple[str, str]:
        """Connects these pairs to one scale and one zero-point initializer, existing or new; returns their names."""
        nodes = [n for p in members for n in p.nodes]
        inputs = {tuple(t.name for t in n.inputs[1:3]) for n in nodes}
        unequal = scale is not None and any(p.value != float(scale) for p in members)
        if len(inputs) == 1 and not unequal:
            only = next(iter(inputs))
            if len(only) == 2 and all(t in self.graph.initializers for t in only):
                return only
        value = np.asarray(members[0].scale if scale is None else scale).reshape(())
        zero = np.zeros((), members[0].types[1] if members else np.int8)
        scale_name = self.draft.add_constant(f"{name}_scale", value)
        zero_name = self.draft.add_constant(f"{name}_zero_point", zero)
        for node in nodes:
            self.draft.set_input((key(node), 1), scale_name)
            if len(node.inputs) > 2 and node.inputs[2].name:
                self.draft.set_input((key(node), 2), zero_name)
        return scale_name, zero_name

    def record_originals(self) -> None:
        """Stores the original scale of each changed site in the metadata, for the guard of later runs."""
        kept = originals(self.graph)
        finest: dict[str, float] = {}
        for change in self.solution.changes:
            finest[change.site] = min(change.own, finest.get(change.site, change.own))
        for site, own in finest.items():
            if site not in kept:
                self.draft.set_metadata(ORIGINAL + site, repr(own))
