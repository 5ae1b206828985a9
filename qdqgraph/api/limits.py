"""What `fix` says of outputs that it cannot make better: sentences with the option that can."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Outputs:
    """Measures outputs: the SQNR in dB of each sample, the mean over the outputs."""

    samples: Few
    folder: Path
    provider: str

    def __call__(self, model: onnx.ModelProto, network: FloatModel) -> NDArray[np.float64]:
        return output_sqnr([model], network, self.samples, self.folder, self.provider)[0]


def limits(repair: Repair, folder: Path, samples: Samples, calibration: Calibration, provider: str) -> tuple[str, ...]:
    """Sentences about the outputs of a model that was repaired on data, measured on some of the samples.

    One says that they are worse than those of the file with no repairs but those that the target needs; one that the
    rounding of the stored weights costs more than everything else, as `another_original` shows, and leaves the outputs
    below `NOISY`. A difference counts if it is larger than its standard error.

    Returns:
        The sentences; none if there are fewer than `LEAST` samples, or onnxruntime cannot run a model.
    """
    few, legal = Few(samples, MOST), repair.legal
    if legal is None or len(few) < LEAST:
        return ()
    outputs = _Outputs(few, folder, provider)
    try:
        network = network_of(repair.model, folder, calibration.reference)
        now = outputs(repair.model, network)
        found = ["" if legal is repair.model else _fall(outputs(legal, network), now, repair)]
        if calibration.reference is None:
            found.append(_lost(outputs, Graph(legal, folder), now))  # repairs may store integers with other scales
    except ModelError:  # such as outputs that are not numeric; nothing depends on these sentences
        return ()
    return tuple(sentence for sentence in found if sentence)


def _fall(before: NDArray[np.float64], now: NDArray[np.float64], repair: Repair) -> str:
    gain, noise = change(before, now)
    if gain >= -max(noise, NOTICED):
        return ""
    return (
        f"the outputs are {-gain:.1f} ± {noise:.1f} dB worse than with only the repairs that TensorRT needs "
        f"({before.mean():.1f} → {now.mean():.1f} dB, {counted(len(now), 'sample')}); {_remedy(repair)}"
    )


def _lost(outputs: _Outputs, legal: Graph, now: NDArray[np.float64]) -> str:
    network = float_model(legal.model, legal.folder)
    drawn = another_original(legal, network)
    if drawn is None:
        return ""
    weights = outputs(drawn, network)
    above, noise = change(weights, now)
    if above <= noise or weights.mean() >= NOISY:
        return ""
    return (
        f"the rounding of the stored weights alone leaves the outputs at about {weights.mean():.0f} dB, all else "
        f"at {now.mean():.0f} dB, so other scales of activations gain little: with --reference FLOAT.onnx the weights "
        "are rounded anew, with a scale for each output channel"
    )


def _remedy(repair: Repair) -> str:
    """The options that may win back what the repairs cost, as a clause."""
    codes = Counter(f.code for f in repair.applied if f.safety is Safety.LOSSY and f.severity is not Severity.ERROR)
    options = [] if any(c.name == BIASES for c in repair.corrections) else ["--bias-correction"]
    options += [f"--ignore {code}" for code, _ in codes.most_common(SHOWN)]
    return f"{' or '.join(options)} may win that back" if options else "the data may be too few"
