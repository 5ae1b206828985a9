"""Corrections on data: what a call of `fix` does to the constants of its repaired graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..calibration.data.samples import Samples
from ..calibration.halves import Half
from ..calibration.layers.biases import bias_corrections
from ..calibration.layers.gain import change, output_sqnr
from ..calibration.weights.rounded import rounded_weights
from ..errors import ModelError
from ..graph.graph import Graph
from ..model.runtime import Feeds
from ..proposals.weights import stored_integers
from ..repair.corrections import Corrections, Gain, Improvement, Propose, Proposed
from ..repair.options import Options
from .given import Progress
from .measuring import Calibration, network_of

BIASES, ROUNDING = "bias correction", "rounding of weights"

Make: TypeAlias = Callable[[Samples, Options, Calibration, str, Progress], Propose]
"""(samples, options, calibration, provider, progress) → a step."""


def correcting(
    options: Options,
    samples: Samples | None,
    calibration: Calibration,
    provider: str,
    progress: Progress,
) -> Corrections | None:
    """The corrections that the options ask for; None if these are none.

    Raises:
        ModelError: corrections are asked for, and there are no samples, or repairs must be exact; or weights that are
            rounded shall be stored in another way.
        CalibrationError: there are too few samples.
    """
    steps: Sequence[tuple[str, bool, Make]]
    steps = ((ROUNDING, options.round_weights, _rounding), (BIASES, options.bias_correction, _biases))
    asked = [(name, make) for name, wanted, make in steps if wanted]
    if not asked:
        return None
    if samples is None:
        raise ModelError(f"{asked[0][0]} is computed on samples of the inputs: give data")
    if options.exact:
        raise ModelError(f"{asked[0][0]} changes values, and exact repairs do not: ask for one of them")
    if options.round_weights and options.weights is not None:
        raise ModelError("rounding of weights stores integers itself, from float weights: omit weights")
    held = Half.both(samples)[1]

    def gain(before: Graph, after: Graph) -> Gain:
        return compared(before, after, calibration, held, provider)

    return Corrections([(name, make(samples, options, calibration, provider, progress)) for name, make in asked], gain)


def compared(
    before: Graph, after: Graph, calibration: Calibration, held: Feeds, provider: str, *, strict: bool = False
) -> Gain:
    """The SQNR of the outputs of two Q/DQ graphs of one network.

    Args:
        before, after: the graphs; the float network is that of the first one.
        calibration: what has the reference.
        held: the samples to compare on.
        provider: "cpu" or "cuda".
        strict: as `Gain`.

    Raises:
        ModelError: onnxruntime is missing, or cannot run a graph; or no output is numeric.
    """
    network = network_of(before.model, before.folder, calibration.reference)
    found = output_sqnr([before.model, after.model], network, held, before.folder, provider)
    return Gain(float(found[0].mean()), float(found[1].mean()), change(found[0], found[1])[1], strict)


def _rounding(
    samples: Samples, options: Options, calibration: Calibration, provider: str, progress: Progress
) -> Propose:
    def propose(graph: Graph) -> Proposed:
        network = network_of(graph.model, graph.folder, calibration.reference)
        known = {} if calibration.reference is None else network.matched()
        examined, found = rounded_weights(
            graph,
            network,
            known,
            samples,
            memory=calibration.memory,
            wanted=options.selects,
            provider=provider,
            progress=progress,
        )
        edits = ((r, stored_integers(r.pair, r.integers)) for r in found)
        return Proposed(examined, tuple(Improvement(r.layer, {}, r.before, r.after, (edit,)) for r, edit in edits))

    return propose


def _biases(samples: Samples, options: Options, calibration: Calibration, provider: str, progress: Progress) -> Propose:
    def propose(graph: Graph) -> Proposed:
        network = network_of(graph.model, graph.folder, calibration.reference)
        examined, found = bias_corrections(graph, network, samples, provider, memory=calibration.memory)
        return Proposed(examined, tuple(Improvement(c.layer, {c.place: c.bias}, c.before, c.after) for c in found))

    return propose
