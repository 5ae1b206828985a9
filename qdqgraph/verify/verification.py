"""Verification: a repair against the model it was made from, on numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ..calibration import inputs
from ..errors import ModelError, RepairError
from ..model import runtime
from ..model.runtime import Feed
from ..repair.rounds import Repair
from . import comparison


@dataclass(frozen=True)
class Verification:
    """What the numeric check showed.

    Attributes:
        outputs: agreement of every output of the repaired model with the original's.
        samples: on how many samples; data: whether they were given, not noise.
        note: why something was left out or ran elsewhere; empty otherwise.
    """

    outputs: dict[str, comparison.Agreement]
    samples: int = 0
    data: bool = False
    note: str = ""


def verify(
    model: onnx.ModelProto, result: Repair, folder: Path, *, data: Sequence[Feed] | None = None, provider: str = "cpu"
) -> Verification:
    """Runs the original, the bit-exactly repaired and the repaired model and compares their outputs.

    Args:
        folder: where external data lie.
        data: inputs, one mapping a sample; without them seeded noise.
        provider: "cpu" or "cuda".

    Raises:
        RepairError: the bit-exact repairs are not bit-exact on these inputs: a rule breaks its promise.
        ModelError: onnxruntime cannot run the model on `data`.
    """
    if not runtime.available():
        return Verification({}, note="the numeric check was left out: onnxruntime is not installed (qdqgraph[ort])")
    name, note = runtime.provider(provider)
    feeds = inputs.noise(model) if data is None else data
    try:
        original = runtime.run(model, feeds, folder, name)
    except ModelError as error:
        if data is not None:
            raise
        return Verification({}, note=f"the numeric check was left out: {error}")
    outputs = [o.name for o in model.graph.output]

    def against(other: onnx.ModelProto) -> dict[str, comparison.Agreement]:
        found = original if other is model else runtime.run(other, feeds, folder, name)
        columns = range(len(outputs))
        return {outputs[i]: comparison.agreement([o[i] for o in original], [o[i] for o in found]) for i in columns}

    exact = against(result.exact)
    broken = [f"{o} ({a.sqnr:.1f} dB)" for o, a in exact.items() if not a.identical]
    if broken and any(not a.identical for a in comparison.compare(model, model, feeds, folder, name).values()):
        return Verification({}, note="the numeric check was left out: the model's outputs are random")
    if broken:
        codes = ", ".join(sorted({f.code for f in result.applied if f.safety.value == "exact"}))
        raise RepairError(f"repairs that promise to be bit-exact ({codes}) change the outputs {', '.join(broken)}")
    final = exact if result.model is result.exact else against(result.model)
    return Verification(final, len(feeds), data is not None, note)
