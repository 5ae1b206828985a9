"""`Measuring`: runs a switched graph with one unit after another in float, or quantized alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from ...calibration.layers.switched import Switched
from ...calibration.sqnr import EXACT
from ...errors import ModelError
from ...model import runtime
from ..kept import Kept
from ..scores import Evaluate, Run, score_of
from .levels import Level, Noise

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
        progress: Callable[[str], None] = lambda message: None,
    ) -> None:
        if not runtime.available():
            raise ModelError("onnxruntime is not installed, and sensitivity runs the network: install qdqgraph[ort]")
        self.graph, self.feeds, self.evaluate, self.progress = graph, feeds, evaluate, progress
        self._session = runtime.Session(graph.model, folder, runtime.provider(provider)[0])
        self._reference = Kept()

    def __enter__(self) -> Self:
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
        noise = Noise(self.graph.outputs)
        for feed, reference in zip(self._samples(), self._reference, strict=True):
            noise.add(reference, self._outputs(feed, switches))
        found = noise.level(None if self.evaluate is None else score_of(self.evaluate, self._run(switches)))
        if found.sqnr_db is None and found.score is None:
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
