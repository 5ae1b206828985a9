"""Lowering: one round of accepted findings becomes edits of a `Draft`.

Groups first: every pair of a group that changes or grows reads one shared scale initializer. Then placements and
rewirings, each node input at most once a round; what conflicts waits for the next round.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import onnx

from ..graph.graph import Graph, key
from ..graph.pair import Pair, pairs
from ..graph.sites import only_quantized
from ..proposals.proposal import Constant, Graft, NodeInput, PlacePair, Rewire, SetPair, touched
from ..rulekit.finding import Finding
from .draft import Draft
from .solver import ORIGINAL, Group, Solution, originals

Rounding = tuple[float, tuple[str, str]]
"""What a pair rounds to: its scale, and the types of scale and integers."""


class Scales:
    """The scales that sites have after a solution: their group's, else their own."""

    def __init__(self, graph: Graph, solution: Solution) -> None:
        self.graph, self.solution = graph, solution

    def at(self, site: str) -> np.ndarray | None:
        """The site's scale; None where it has none, or several."""
        group = self.solution.group(site)
        if group is not None and group.scale is not None:
            return group.scale
        own = pairs(self.graph).at(site)
        return own[0].scale if own and all(p.same_grid(own[0]) for p in own) else None

    def source(self, edit: PlacePair) -> tuple[str, bool]:
        """The site whose scale a placed pair takes, empty where none is known, and whether the pair rounds only what
        is rounded with that scale already, as far as `edit.agree` asks for it."""
        like = edit.like or edit.tensor
        source = next((site for site in (like, *edit.agree) if self.at(site) is not None), "")
        grids = self._grids(like).union(*(self.reached.get(site) or self._grids(site) for site in edit.agree))
        if not source and edit.agree and len(grids) == 1:
            source = self._first_behind(edit.agree)
        taken = self.at(source) if source else None
        behind = {value for value, _ in grids}
        return source, len(grids) <= 1 and (taken is None or not edit.agree or behind <= {float(taken)})

    @cached_property
    def reached(self) -> dict[str, frozenset[Rounding]]:
        """For each closed tensor the grids of all Qs that its raw values reach; two stand for any number above one."""
        found: dict[str, frozenset[Rounding]] = {}
        for tensor, following in only_quantized(self.graph).items():
            grids = self._grids(tensor).union(*(found[made] for made in following))
            found[tensor] = frozenset(list(grids)[:2])
        return found

    def _grids(self, site: str) -> frozenset[Rounding]:
        """What the site's pairs round to: scale and types; several where they differ and no group joins them."""
        mine = pairs(self.graph).at(site)
        scale = self.at(site)
        if scale is None:
            return frozenset((p.value, p.types) for p in mine)
        return frozenset((float(scale), p.types) for p in mine)

    def _first_behind(self, tensors: Sequence[str]) -> str:
        """The first site behind these tensors that has a scale."""
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
    """Carries the findings out; returns the new model and those that were applied.

    Args:
        exact: leave every scale as it is (the solution then holds agreeing groups only).
    """
    if not findings:
        return graph.model, []
    lowering = _Round(graph, solution)
    done: list[Finding] = []
    if not exact:
        done += [f for f in findings if f.tie is not None]
        for group in solution.groups:
            if not group.agreed and group.scale is not None:
                lowering.share(group)
        lowering.record_originals()
    done += [f for f in findings if f.edits and lowering.carry_out(f)]
    return (lowering.draft.finish() if done else graph.model), done


class _Round:
    def __init__(self, graph: Graph, solution: Solution) -> None:
        self.graph, self.solution = graph, solution
        self.scales = Scales(graph, solution)
        self.draft = Draft(graph.model)
        self.taken: set[NodeInput] = set()
        self.shared: dict[int, tuple[str, str]] = {}
        self.placed: dict[tuple[str, bytes], str] = {}
        self.zero_points: dict[Constant, str] = {}

    def carry_out(self, finding: Finding) -> bool:
        """Applies a finding's edits, all or none; False where another finding was first at one of its inputs."""
        wanted = [reader for edit in finding.edits for reader in touched(edit)]
        if any(reader in self.taken for reader in wanted):
            return False
        self.taken.update(wanted)
        for edit in finding.edits:
            if isinstance(edit, SetPair):
                self.write(edit)
                continue
            if isinstance(edit, Graft):
                self.draft.graft(edit, finding.code)
                continue
            tensor = edit.tensor if isinstance(edit, Rewire) else self.place(edit, finding.code)
            for reader in touched(edit):
                self.draft.set_input(reader, tensor)
        return True

    def place(self, edit: PlacePair, code: str) -> str:
        """The output of a pair of the tensor that has the scale asked for: one it has already, else a new one."""
        source, _ = self.scales.source(edit)
        scale = self.scales.at(source)
        assert scale is not None, "a placement without a scale is refused before"
        where = (edit.tensor, scale.tobytes())
        if where not in self.placed:
            mine = [p for p in pairs(self.graph).at(edit.tensor) if p.tensor == edit.tensor and p.dequantizes]
            after = self.scales.at(edit.tensor)
            fits = mine and after is not None and after.tobytes() == scale.tobytes()
            self.placed[where] = key(mine[0].dequantizes[0]) if fits else self.new_pair(edit.tensor, source, code)
        return self.placed[where]

    def new_pair(self, tensor: str, like: str, code: str) -> str:
        """A pair behind the tensor's producer with the scale of the site `like`; returns its output."""
        group = self.solution.group(like)
        if group is not None and group.scale is not None:
            scale, zero_point = self.share(group)
        else:
            scale, zero_point = self._constants(like, list(pairs(self.graph).at(like)))
        return self.draft.add_pair(tensor, scale, zero_point, code)

    def write(self, edit: SetPair) -> None:
        """Writes a pair's parameters anew; pairs that end with equal zero-points share them."""
        tensor = self.graph.node(edit.nodes[0]).inputs[0].name
        scale = self._kept_scale(edit) or self.draft.add_constant(f"{tensor}_scale", edit.scale.array)
        if edit.zero_point not in self.zero_points:
            zero_point = edit.zero_point.array
            name = f"{'zero' if not zero_point.any() else tensor}_{zero_point.dtype}"
            self.zero_points[edit.zero_point] = self.draft.add_constant(name, zero_point)
        integers = None
        if edit.integers is not None:
            integers = self.draft.add_constant(f"{tensor}_integers", edit.integers.array)
        for node in edit.nodes:
            self.draft.set_parameters(node, scale, self.zero_points[edit.zero_point], edit.axis)
            if integers is not None and self.graph.node(node).op == "DequantizeLinear":
                self.draft.set_input((node, 0), integers)

    def _kept_scale(self, edit: SetPair) -> str:
        """The initializer that the pair's nodes read already, where it is the scale asked for; else nothing."""
        names = {self.graph.node(node).inputs[1].name for node in edit.nodes}
        name = names.pop()
        array = self.graph.array(name) if not names and name in self.graph.initializers else None
        return name if array is not None and Constant.of(array) == edit.scale else ""

    def share(self, group: Group) -> tuple[str, str]:
        """Lets all pairs of a group read one scale and one zero-point initializer; returns their names."""
        if id(group) not in self.shared:
            assert group.scale is not None
            members = [p for s in group.sites for p in pairs(self.graph).at(s)]
            self.shared[id(group)] = self._constants(group.anchor or group.sites[0], members, group.scale)
            self._merge(members)
        return self.shared[id(group)]

    def _merge(self, members: Sequence[Pair]) -> None:
        """Leaves one QuantizeLinear of those that a tie made equal on one tensor; their DequantizeLinears stay."""
        first: dict[str, str] = {}
        for pair in members:
            if pair.quantize is None or pair.pinned:
                continue
            kept = first.setdefault(pair.tensor, key(pair.quantize))
            for dequantize in pair.dequantizes:
                self.draft.set_input((key(dequantize), 0), kept)

    def _constants(self, name: str, members: Sequence[Pair], scale: np.ndarray | None = None) -> tuple[str, str]:
        """One scale and one zero-point initializer for these pairs: the ones they share already, or new ones."""
        nodes = [n for p in members for n in p.nodes]
        inputs = {tuple(t.name for t in n.inputs[1:3]) for n in nodes}
        unequal = scale is not None and any(p.value != float(scale) for p in members)
        if len(inputs) == 1 and not unequal:
            only = next(iter(inputs))
            if len(only) == 2 and all(t in self.graph.initializers for t in only):
                return only
        first = members[0]
        value = np.asarray(first.scale if scale is None else scale).reshape(())
        zero = np.zeros((), first.types[1])
        scale_name = self.draft.add_constant(f"{name}_scale", value)
        zero_name = self.draft.add_constant(f"{name}_zero_point", zero)
        for node in nodes:
            self.draft.set_input((key(node), 1), scale_name)
            if len(node.inputs) > 2 and node.inputs[2].name:
                self.draft.set_input((key(node), 2), zero_name)
        return scale_name, zero_name

    def record_originals(self) -> None:
        """Keeps each changed site's original scale in the metadata, for the guard of later runs."""
        kept = originals(self.graph)
        finest: dict[str, float] = {}
        for change in self.solution.changes:
            finest[change.site] = min(change.own, finest.get(change.site, change.own))
        for site, own in finest.items():
            if site not in kept:
                self.draft.set_metadata(ORIGINAL + site, repr(own))
