"""`Measuring`: runs a switched graph with one unit after another in float, or quantized alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...calibration.layers.switched import Switched
from ...calibration.sqnr import EXACT
from ...errors import ModelError
from ...extras import install_hint
from ...log import Progress, log_step
from ...model import runtime
from ..kept import Kept
from ..scores import Evaluate, Run, run_of, score_of
from .levels import Level, Noise, Sampled

Inputs = Mapping[str, np.ndarray]


class Measuring:
    """A switched graph in ONNX Runtime. As a context manager it keeps the outputs of the float network on all samples.

    Args:
        graph: the switched graph.
        feeds: the samples; none if only scores are measured.
        folder: where external data lie.
        evaluate: scores a network; None for no score.
        provider: "cpu" or "cuda".
        progress: called with one line for each step.

    Raises:
        ModelError: onnxruntime is missing or cannot run the network, the network has no floating-point output and there
            is no function that scores, or its outputs in float are not finite.
        QdqgraphError: the score is not a number.
    """

    def __init__(
        self,
        graph: Switched,
        feeds: Iterable[Inputs] | None,
        folder: Path,
        evaluate: Evaluate | None,
        provider: str = "cpu",
        progress: Progress = log_step,
    ) -> None:
        if not runtime.available():
            raise ModelError(f"onnxruntime is not installed, and sensitivity runs the network: {install_hint('ort')}")
        self.graph, self.feeds, self.evaluate, self.progress = graph, feeds, evaluate, progress
        self._provider = provider
        self._session = runtime.Session(graph.model, folder, runtime.provider(provider)[0])
        self._reference = Kept()

    def __enter__(self) -> Measuring:
        try:
            for number, feed in enumerate(self._samples(), 1):
                self.progress(f"float network, sample {number}")
                self._reference.add(self._outputs(feed, self.graph.on()))
        except BaseException:
            self._reference.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._reference.__exit__()

    def level(self, switches: Inputs) -> Level:
        """The outputs with these switches against the float network.

        Args:
            switches: as `Switched.off` and `Switched.on` return them.
        """
        found = self.levels(switches, 1)[0]
        return Level(found.sqnr_db, found.outputs_db, found.score)

    def levels(
        self, switches: Inputs, parts: int, wanted: Collection[int] | None = None, *, score: bool = True
    ) -> tuple[Sampled, ...]:
        """The same for parts of the samples (every so-many-th, beginning with the number of the part), and each sample.

        Args:
            switches: as `level`.
            parts: their number.
            wanted: the parts that are measured, and returned; all by default.
            score: whether the score is measured; always if there is no floating-point output.
        """
        return self._levels(self._run(switches), range(parts) if wanted is None else sorted(wanted), parts, score)

    def of(self, model: onnx.ModelProto, folder: Path, parts: int) -> tuple[Sampled, ...]:
        """The same for another model of the network, as it is.

        Args:
            model: the model; its outputs are those of the Q/DQ graph.
            folder: where its external data lie.
            parts: as `levels`.
        """
        return self._levels(run_of(model, folder, self._provider), range(parts), parts)

    def _levels(self, run: Run, asked: Iterable[int], parts: int, scoring: bool = True) -> tuple[Sampled, ...]:
        noise = {part: Noise(self.graph.outputs) for part in asked}
        for index, (feed, reference) in enumerate(zip(self._samples(), self._reference, strict=True)):
            if index % parts in noise:
                noise[index % parts].add(reference, [*run(feed).values()])
        scoring = scoring or not all(each.noise for each in noise.values())
        score = None if self.evaluate is None or not scoring else score_of(self.evaluate, run)
        found = tuple(each.level(score) for each in noise.values())
        if any(level.sqnr_db is None and level.score is None for level in found):
            raise ModelError("the model has no floating-point output whose noise could be measured: give --eval")
        return found

    def unquantized(self) -> Level:
        """The level of the float network: no noise."""
        first = next(iter(self._reference), list[Any]())
        names = [n for n, array in zip(self.graph.outputs, first, strict=False) if array.dtype.kind == "f"]
        score = None if self.evaluate is None else score_of(self.evaluate, self._run(self.graph.on()))
        return Level(EXACT if names else None, dict.fromkeys(names, EXACT), score)

    def _samples(self) -> Iterable[Inputs]:
        return () if self.feeds is None else self.feeds  # no `or`: the length of samples may take a pass

    def _run(self, switches: Inputs) -> Run:
        """The network with these switches, for the function that scores it."""

        def run(feeds: Inputs) -> dict[str, np.ndarray]:
            return dict(zip(self.graph.outputs, map(np.asarray, self._outputs(feeds, switches)), strict=True))

        return run

    def _outputs(self, feed: Inputs, switches: Inputs) -> list[Any]:
        return self._session.run([{**feed, **switches}])[0]
