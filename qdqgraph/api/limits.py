"""What `fix` says of outputs that it cannot make better: sentences with the option that can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ..calibration.data.samples import Samples
from ..calibration.few import Few
from ..calibration.layers.gain import change, output_sqnr
from ..calibration.statistics.floating import FloatModel, float_model
from ..calibration.weights.lost import another_original
from ..errors import ModelError, counted
from ..graph.graph import Graph
from ..repair.repair import Repair
from ..rulekit.finding import Safety, Severity
from ..verify.verification import NOISY
from .correcting import BIASES
from .measuring import Calibration, network_of

LEAST, MOST = 2, 8
"""Samples that the outputs are compared on: from two on, a difference has a standard error."""
NOTICED = 0.1
"""Decibels; a smaller fall of the outputs is not worth a sentence."""
SHOWN = 2
"""Rules that a sentence names."""


def limits(repair: Repair, folder: Path, samples: Samples, calibration: Calibration, provider: str) -> tuple[str, ...]:
    """Sentences about the outputs of a repaired model, measured against its float network on some of the samples.

    One says that they are worse than those of the file with no repairs but those that the target needs; one that the
    rounding of the stored weights costs more than everything else, as `another_original` shows, and leaves the outputs
    below `NOISY`.
    A difference counts if it is larger than its standard error. None if onnxruntime cannot run a model.
    """
    few = Few(samples, MOST)
    if len(few) < LEAST:
        return ()
    try:
        return tuple(_sentences(repair, folder, few, calibration, provider))
    except ModelError:  # such as an output that is not numeric; nothing depends on these sentences
        return ()


def _sentences(repair: Repair, folder: Path, few: Few, calibration: Calibration, provider: str) -> Iterator[str]:
    def measured(model: onnx.ModelProto, network: FloatModel) -> NDArray[np.float64]:
        return output_sqnr([model], network, few, folder, provider)[0]

    network = network_of(repair.model, folder, calibration.reference)
    now = measured(repair.model, network)
    if repair.legal is None:
        return
    if repair.legal is not repair.model:
        before = measured(repair.legal, network)
        gain, noise = change(before, now)
        if gain < -max(noise, NOTICED):
            yield (
                f"the outputs are {-gain:.1f} ± {noise:.1f} dB worse than with only the repairs that TensorRT needs "
                f"({before.mean():.1f} → {now.mean():.1f} dB, {counted(len(few), 'sample')}); {_remedy(repair)}"
            )
    if calibration.reference is not None:
        return
    graph = Graph(repair.legal, folder)  # repairs may store the integers with other scales
    own = float_model(repair.legal, folder)
    drawn = another_original(graph, own)
    if drawn is not None:
        weights = measured(drawn, own)
        above, noise = change(weights, now)
        if above > noise and weights.mean() < NOISY:
            yield (
                f"the rounding of the stored weights alone leaves the outputs at about {weights.mean():.0f} dB, "
                f"everything else at {now.mean():.0f} dB, so other scales of activations gain little: with "
                "--reference FLOAT.onnx the weights are rounded anew, with a scale for each output channel"
            )


def _remedy(repair: Repair) -> str:
    """The options that may win back what the repairs cost, as a clause."""
    codes = Counter(f.code for f in repair.applied if f.safety is Safety.LOSSY and f.severity is not Severity.ERROR)
    options = [] if any(c.name == BIASES for c in repair.corrections) else ["--bias-correction"]
    options += [f"--ignore {code}" for code, _ in codes.most_common(SHOWN)]
    return f"{' or '.join(options)} may win that back" if options else "the data may be too few"
