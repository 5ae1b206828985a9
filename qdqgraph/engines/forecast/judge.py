"""`Judge`: what a repair does to the engine, by forecasts: costs of findings, and which repairs to refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...graph.graph import Graph
from ...repair.guard import Identity, Reasons
from ...rulekit.finding import Finding, Severity
from ...targets.target import Target
from ..layers import Engine
from ..share import Int8Share
from .blame import Cost, blamed, reason
from .cost import priced
from .forecast import fused


class Judge:
    """The forecasts of one repair; a graph that several steps ask for is forecast once.

    A repair is refused if it makes the engine worse by two readings of the target's rules: as they are, and as if only
    element-wise operators had generated kernels (`Target.of_libraries`); both with everything fused that TensorRT
    decides by timing. TensorRT 10 builds some networks of convolutions without its compiler
    (`docs/engines.md`), and a repair is not refused for what only some builds do.

    Attributes:
        shares: what runs in INT8 in the first and in the last graph that it saw.
    """

    def __init__(self) -> None:
        self.shares: tuple[Int8Share, ...] = ()
        self._known: list[tuple[Graph, Target, Engine]] = []

    def price(self, graph: Graph, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Returns the remaining findings of a repaired graph with what each costs."""
        engine = fused(graph, "")
        self._saw(Int8Share.of(engine))
        return priced(findings, engine)

    def refuse(
        self,
        before: Graph,
        after: Graph,
        applied: Sequence[Finding],
        illegal: Sequence[Finding],
    ) -> Reasons:
        """Returns the repairs to refuse, by identity, with the reason; none unless the engine became worse.

        It is worse with fewer weighted layers in INT8 or more bytes per run. Findings of severity error are never
        refused: their repair is what lets TensorRT accept the file.

        Args:
            before: the graph before the repairs.
            after: the graph after them.
            applied: the findings that were repaired.
            illegal: the findings for which the target refuses `before`; bytes of a refused file are not compared.
        """
        refused = [f.code for f in illegal]
        if not self.shares:
            self._saw(Int8Share.of(fused(before, ""), refused))
        free = [f for f in applied if f.severity is not Severity.ERROR]
        if not free or after is before:
            return {}
        readings = dict.fromkeys((before.target.of_libraries, before.target))
        changes: list[str] = []
        for target in readings:
            changes.append(self._change(before, after, target, refused))
            if not changes[0]:  # the first reading decides alone, and a forecast takes as long as a scan
                return {}
        costs = [self._blamed(before, after, target, applied, stored=not illegal) for target in readings]
        weighted = Int8Share.of(self._engine(after, after.target)).weighted
        mine = [f.identity for f in free]
        found = {i: reason(costs[0][i], weighted) for i in mine if all(i in each for each in costs)}
        if not found and all(changes):  # each reading blames other repairs
            found = {i: reason(costs[0][i], weighted) for i in mine if i in costs[0]}
        if not found and all(changes):
            found = dict.fromkeys(mine, f"together with others, {changes[0]}")
        return {known: f"{why}, by the forecast; --also {known[0]} applies it" for known, why in found.items()}

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
        for known, aim, engine in self._known:
            if known is graph and aim == target:
                return engine
        engine = fused(graph.aimed_at(target), "")
        self._known = [*self._known[-3:], (graph, target, engine)]
        return engine
