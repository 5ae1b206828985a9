"""`Measuring`: runs a switched graph with one unit after another in float, or quantized alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
        self._places: list[Sequence[int]] = [range(len(graph.outputs))]
        """Where the outputs are; if some end in a Softmax or Sigmoid: and where they are with its input instead."""
        if graph.before:
            names = (*graph.outputs, *graph.before.values())
            self._places.append([names.index(graph.before.get(name, name)) for name in graph.outputs])

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
        return self.measured(switches, parts, wanted, score=score)[0]

    def measured(
        self, switches: Inputs, parts: int, wanted: Collection[int] | None = None, *, score: bool = True
    ) -> tuple[tuple[Sampled, ...], tuple[Sampled, ...]]:
        """What `levels` returns, and the same with the inputs of the Softmax and Sigmoid operators that outputs end in,
        in place of these outputs; empty if none ends so."""
        asked = range(parts) if wanted is None else sorted(wanted)
        run = self._run(switches)
        levels, *before = self._levels(lambda f: self._outputs(f, switches), run, asked, parts, score, self._places)
        return levels, before[0] if before else ()

    def of(self, model: onnx.ModelProto, folder: Path, parts: int) -> tuple[Sampled, ...]:
        """The same for another model of the network, as it is.

        Args:
            model: the model; its outputs are those of the Q/DQ graph.
            folder: where its external data lie.
            parts: as `levels`.
        """
        run = run_of(model, folder, self._provider)
        return self._levels(lambda f: [*run(f).values()], run, range(parts), parts, True, self._places[:1])[0]

    def _levels(
        self,
        outputs: Callable[[Inputs], Sequence[Any]],
        run: Run,
        asked: Iterable[int],
        parts: int,
        scoring: bool,
        places: Sequence[Sequence[int]],
    ) -> list[tuple[Sampled, ...]]:
        """The levels of some parts of the samples, with what is in these places of the outputs."""
        noise = {part: [Noise(self.graph.outputs) for _ in places] for part in asked}
        for index, (feed, reference) in enumerate(zip(self._samples(), self._reference, strict=True)):
            if index % parts in noise:
                found = outputs(feed)
                for each, at in zip(noise[index % parts], places, strict=True):
                    each.add([reference[i] for i in at], [found[i] for i in at])
        scoring = scoring or not all(each.noise for each, *_ in noise.values())
        score = None if self.evaluate is None or not scoring else score_of(self.evaluate, run)
        levels = [tuple(each.level(score) for each in column) for column in zip(*noise.values(), strict=True)]
        if any(level.sqnr_db is None and level.score is None for level in levels[0]):
            raise ModelError("the model has no floating-point output whose noise could be measured: give --eval")
        return levels

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
            found = map(np.asarray, self._outputs(feeds, switches))
            return dict(zip(self.graph.outputs, found, strict=False))  # those before a Softmax come after

        return run

    def _outputs(self, feed: Inputs, switches: Inputs) -> list[Any]:
        return self._session.run([{**feed, **switches}])[0]
