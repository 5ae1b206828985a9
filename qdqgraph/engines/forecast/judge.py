"""`Judge`: what a repair does to the engine, by forecasts: costs of findings, and which repairs to refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...graph.graph import Graph
from ...model.dims import NO_SHAPES, Shapes
from ...repair.guard import Identity, Reasons
from ...rulekit.finding import Finding, Severity
from ...targets.target import Target
from ..layers import Engine
from ..share import Int8Share
from .blame import Cost, blamed, reason
from .cost import priced
from .forecast import fused

KEPT = 6
"""The forecasts that are kept, the last used ones: two readings of a graph before repairs, and of two after them."""


class Judge:
    """The forecasts of one repair; a graph that several steps ask for is forecast once.

    A repair is refused if it makes the engine worse by two readings of the target's rules: as they are, and as if only
    element-wise operators had generated kernels (`Target.of_libraries`); both with everything fused that TensorRT
    decides by timing. TensorRT 10 builds some networks of convolutions without its compiler
    (`docs/engines.md`), and a repair is not refused for what only some builds do.

    Args:
        sizes: the shapes of inputs by which the forecasts count bytes (see `Graph.sized`).

    Attributes:
        shares: what runs in INT8 in the first and in the last graph that it saw.
    """

    def __init__(self, sizes: Shapes = NO_SHAPES) -> None:
        self.sizes = sizes
        self.shares: tuple[Int8Share, ...] = ()
        self._known: list[tuple[Graph, Target, Engine]] = []

    def knows(self, graph: Graph, engine: Engine) -> None:
        """Takes the forecast of a graph, so that it is not made again."""
        self._known = [(graph, graph.target, engine)]

    def price(self, graph: Graph, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Returns the remaining findings of a repaired graph with what each costs."""
        engine = self._engine(graph, graph.target)
        self._saw(Int8Share.of(engine))
        self._known = []  # a repair ends here: its graphs are not kept
        return priced(findings, engine)

    def refuse(
        self,
        before: Graph,
        after: Graph,
        applied: Sequence[Finding],
        illegal: Sequence[Finding],
    ) -> Reasons:
        """Returns the repairs to refuse, by identity, with the reason; none unless the engine became worse.

        It is worse with fewer weighted layers in INT8 or more bytes per run, by one reading at least; refused are the
        repairs to which both readings attribute that. Findings of severity error are never refused: their repair is
        what lets TensorRT accept the file.

        Args:
            before: the graph before the repairs.
            after: the graph after them.
            applied: the findings that were repaired.
            illegal: the findings for which the target refuses `before`; bytes of a refused file are not compared.
        """
        refused = [f.code for f in illegal]
        if not self.shares:
            self._saw(Int8Share.of(self._engine(before, before.target), refused))
        free = [f for f in applied if f.severity is not Severity.ERROR]
        if not free or after is before:
            return {}
        mine = [f.identity for f in free]
        own, plain = before.target, before.target.of_libraries
        change = self._change(before, after, own, refused)
        costs = self._blamed(before, after, own, applied, stored=not illegal)
        if not change and not any(identity in costs for identity in mine):
            return {}  # whatever the other reading is: its two forecasts take as long as a scan
        change_plain = self._change(before, after, plain, refused)
        if not change and not change_plain:
            return {}
        first = self._blamed(before, after, plain, applied, stored=not illegal)
        found = {i: self._reason(first[i], after) for i in mine if i in first and i in costs}
        if not found and change and change_plain:  # each reading blames other repairs
            found = {i: self._reason(first[i], after) for i in mine if i in first}
        if not found and change and change_plain:
            found = dict.fromkeys(mine, f"together with others, {change_plain}")
        return _refusals(found)

    def doubt(self, before: Graph, after: Graph, applied: Sequence[Finding], illegal: Sequence[Finding]) -> Reasons:
        """Returns the repairs at which the engine became worse by both readings, whatever the others gain.

        Args:
            before, after, applied, illegal: as `refuse`.
        """
        mine = [f.identity for f in applied if f.severity is not Severity.ERROR]
        for target in (before.target, before.target.of_libraries):
            if not mine or after is before:
                return {}
            costs = self._blamed(before, after, target, applied, stored=not illegal)
            mine = [identity for identity in mine if identity in costs]
        return _refusals({identity: self._reason(costs[identity], after) for identity in mine})

    def better(self, graph: Graph, other: Graph) -> bool:
        """Returns whether another graph moves fewer bytes, with as many layers in INT8, by both readings."""
        for target in (graph.target, graph.target.of_libraries):
            old, new = (Int8Share.of(self._engine(each, target)) for each in (graph, other))
            if new.int8 < old.int8 or new.bytes >= old.bytes:
                return False
        return True

    def _reason(self, cost: Cost, graph: Graph) -> str:
        return reason(cost, Int8Share.of(self._engine(graph, graph.target)).weighted)

    def _change(self, before: Graph, after: Graph, target: Target, refused: Sequence[str]) -> str:
        """What is worse after the repairs by the rules of a target; "" if nothing is."""
        old = Int8Share.of(self._engine(before, target), refused)
        return Int8Share.of(self._engine(after, target)).worse_than(old)

    def _blamed(
        self, before: Graph, after: Graph, target: Target, applied: Sequence[Finding], *, stored: bool
    ) -> Mapping[Identity, Cost]:
        old, new = ((graph, self._engine(graph, target)) for graph in (before, after))
        return blamed(old, new, applied, stored=stored)

    def _saw(self, share: Int8Share) -> None:
        self.shares = (self.shares[0] if self.shares else share, share)

    def _engine(self, graph: Graph, target: Target) -> Engine:
        known = [entry for entry in self._known if entry[0] is graph and entry[1] == target]
        entry = known[0] if known else (graph, target, fused(graph.aimed_at(target).sized(self.sizes), ""))
        self._known = [*(other for other in self._known if other is not entry), entry][-KEPT:]
        return entry[2]


def _refusals(reasons: Reasons) -> Reasons:
    """The reasons as sentences, with the option that applies the repair nonetheless."""
    return {known: f"{why}, by the forecast; --also {known[0]} applies it" for known, why in reasons.items()}
