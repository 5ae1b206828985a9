"""Corrections on data: what a call of `fix` does to the constants of its repaired graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..calibration.data.samples import Samples
from ..calibration.halves import Half
from ..calibration.layers.biases import bias_corrections
from ..calibration.layers.gain import output_sqnr
from ..errors import ModelError
from ..graph.graph import Graph
from ..repair.corrections import Corrections, Gain, Improvement, Propose, Proposed
from ..repair.options import Options
from . import given
from .measuring import network_of

BIASES = "bias correction"


def correcting(
    options: Options, samples: Samples | None, reference: given.Model | None, provider: str
) -> Corrections | None:
    """The corrections that the options ask for; None if these are none.

    Raises:
        ModelError: corrections are asked for, and there are no samples, or repairs must be exact.
        CalibrationError: there are too few samples.
    """
    steps: Sequence[tuple[str, bool, Callable[[Samples, given.Model | None, str], Propose]]]
    steps = ((BIASES, options.bias_correction, _biases),)
    asked = [(name, make) for name, wanted, make in steps if wanted]
    if not asked:
        return None
    if samples is None:
        raise ModelError(f"{asked[0][0]} is computed on samples of the inputs: give data")
    if options.exact:
        raise ModelError(f"{asked[0][0]} changes values, and exact repairs do not: ask for one of them")
    held = Half.both(samples)[1]

    def gain(before: Graph, after: Graph) -> Gain:
        network = network_of(before.model, before.folder, reference)
        found = output_sqnr([before.model, after.model], network, held, before.folder, provider)
        change = found[1] - found[0]
        noise = float(np.std(change, ddof=1)) / math.sqrt(change.size) if change.size > 1 else 0.0
        return Gain(float(found[0].mean()), float(found[1].mean()), noise)

    return Corrections([(name, make(samples, reference, provider)) for name, make in asked], gain)


def _biases(samples: Samples, reference: given.Model | None, provider: str) -> Propose:
    def propose(graph: Graph) -> Proposed:
        network = network_of(graph.model, graph.folder, reference)
        examined, found = bias_corrections(graph, network, samples, provider)
        return Proposed(examined, tuple(Improvement(c.layer, {c.place: c.bias}, c.before, c.after) for c in found))

    return propose
