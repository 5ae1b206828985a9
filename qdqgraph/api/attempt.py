"""`Attempt`: one way to repair a model: what measures its scales, what corrects it, and the forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import onnx

from ..engines.forecast.judge import Judge
from ..repair import rounds
from ..repair.corrections import Corrections
from ..repair.options import Options
from ..repair.repair import Repair
from ..repair.work import Measure
from ..rulekit.rule import Rule
from .given import Progress


class Repairs(Protocol):
    """`repair.rounds.fix` or `repair.rounds.quantize`."""

    def __call__(
        self,
        model: onnx.ModelProto,
        rules: Sequence[Rule],
        options: Options,
        *,
        measure: Any,
        folder: Path,
        progress: Progress,
        judge: Any,
        corrections: Any,
    ) -> Repair:
        """Repairs a model."""


@dataclass(frozen=True)
class Attempt:
    """What a repair of a model uses.

    Attributes:
        rules: the rules to repair by.
        options: the settings.
        folder: where external data lie.
        progress: called with one line before each step.
        measure: measures the sites of the graph; None to keep the scales.
        corrections: corrects the constants of the repaired graph; None for none.
        judge: the forecasts, from the first graph to the last one.
    """

    rules: Sequence[Rule]
    options: Options
    folder: Path
    progress: Progress
    measure: Measure | None
    corrections: Corrections | None
    judge: Judge

    def repair(self, model: onnx.ModelProto, repairs: Repairs = rounds.fix) -> Repair:
        """Repairs a model; raises as `repairs`."""
        return repairs(
            model,
            self.rules,
            self.options,
            folder=self.folder,
            progress=self.progress,
            judge=self.judge,
            measure=self.measure,
            corrections=self.corrections,
        )

    @property
    def plain(self) -> Attempt:
        """The same without corrections, and with weights stored as they are."""
        return replace(self, corrections=None, options=replace(self.options, weights=None))

    @property
    def unmeasured(self) -> Attempt:
        """The same without data: scales are kept, nothing is corrected, and the forecasts are its own."""
        return replace(self.plain, measure=None, judge=Judge(self.options.sizes))

    @property
    def is_plain(self) -> bool:
        """Whether there are neither."""
        return self.corrections is None and self.options.weights is None
