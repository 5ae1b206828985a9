"""`Tuned`: what `tune` returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import counted
from ..search.outcome import Outcome, Point
from .results import Result


@dataclass(frozen=True, repr=False)
class Tuned:
    """What `tune` returns.

    Attributes:
        result: the chosen model as a repair of the given one, with its plan.
        outcome: the front, the budget and what they were measured on.
    """

    result: Result
    outcome: Outcome

    def summary(self) -> str:
        """The text of `qdqgraph tune`."""
        from . import tune  # each way of showing a result loads what it needs
        from .notebook import plain

        return plain(lambda console: tune.show(console, self.outcome))

    def to_json(self) -> str:
        """The document of `qdqgraph tune --json`."""
        from .tune import to_json

        return to_json(self.outcome)

    def __repr__(self) -> str:
        chosen = self.outcome.chosen
        figures = f"{chosen.found.ms:.4g} ms, {_quality(chosen)}, base {self.outcome.base.found.ms:.4g} ms"
        return (
            f"<Tuned {self.outcome.file!r}: {chosen.name}: {figures}; {counted(self.outcome.candidates, 'candidate')}>"
        )

    def _repr_html_(self) -> str:
        """The chosen model beside the repaired one and the float network: time and quality."""
        from .notebook import table

        return table(
            f"{self.outcome.file}: {self.outcome.budget.text}", ("", "ms", "quality"), self._rows(), self.outcome.notes
        )

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        outcome = self.outcome
        for what, point in (("float", outcome.floats), ("repaired", outcome.base), ("chosen", outcome.chosen)):
            yield f"{what}: {point.name}", f"{point.found.ms:.4g}", _quality(point)


def _quality(point: Point) -> str:
    unit = "" if point.found.searched.score is not None else " dB"
    return f"{point.found.quality:.4g}{unit}"
