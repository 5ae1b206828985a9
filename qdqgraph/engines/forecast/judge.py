"""`Judge`: what a repair does to the engine, by forecasts: costs of findings, and which repairs to refuse."""

from __future__ import annotations

from collections.abc import Sequence

from ...graph.graph import Graph
from ...repair.guard import Reasons
from ...rulekit.finding import Finding, Severity
from ..layers import Engine
from ..share import Int8Share
from .blame import blamed, reason
from .cost import priced
from .forecast import forecast


class Judge:
    """The forecasts of one repair; a graph that several steps ask for is forecast once.

    Refusals use the rules that hold for every generation: as if only element-wise operators had generated kernels, and
    with everything fused that TensorRT decides by timing. TensorRT 10 builds some networks of convolutions without its
    compiler (`docs/engines.md`), and a repair is not refused for what only some builds do.

    Attributes:
        shares: what runs in INT8 in the first and in the last graph that it saw.
    """

    def __init__(self) -> None:
        self.shares: tuple[Int8Share, ...] = ()
        self._known: list[tuple[Graph, Engine]] = []

    def price(self, graph: Graph, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Returns the remaining findings of a repaired graph with what each costs."""
        engine = forecast(graph, "")
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
            self._saw(Int8Share.of(forecast(before, ""), refused))
        free = [f for f in applied if f.severity is not Severity.ERROR]
        if not free or after is before:
            return {}
        old, new = Int8Share.of(self._engine(before), refused), Int8Share.of(self._engine(after))
        if not new.worse_than(old):
            return {}
        costs = blamed((before, self._engine(before)), (after, self._engine(after)), applied, stored=not illegal)
        found = {f.identity: reason(costs[f.identity], new.weighted) for f in free if f.identity in costs}
        if not costs:
            found = {f.identity: f"together with others, {new.worse_than(old)}" for f in free}
        return {known: f"{why}, by the forecast; --also {known[0]} applies it" for known, why in found.items()}

    def _saw(self, share: Int8Share) -> None:
        self.shares = (self.shares[0] if self.shares else share, share)

    def _engine(self, graph: Graph) -> Engine:
        for known, engine in self._known:
            if known is graph:
                return engine
        engine = forecast(graph.aimed_at(graph.target.of_libraries), "", together=True)
        self._known = [*self._known[-1:], (graph, engine)]
        return engine
