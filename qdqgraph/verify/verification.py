"""Numeric verification: compares a repaired model with the original in ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from ..calibration import inputs
from ..errors import ModelError, RepairError
from ..model import runtime
from ..model.runtime import Feeds
from ..repair.repair import Repair
from . import comparison


@dataclass(frozen=True)
class Verification:
    """The result of the numeric check.

    Attributes:
        outputs: the agreement of each output of the repaired model with the original, by output name.
        samples: number of samples.
        data: whether the samples were given; False for seeded noise.
        note: why the check was skipped, or ran on another provider; "" otherwise.
        source: where the samples come from and what was done to them; "" for noise.
    """

    outputs: dict[str, comparison.Agreement]
    samples: int = 0
    data: bool = False
    note: str = ""
    source: str = ""


def verify(
    model: onnx.ModelProto, result: Repair, folder: Path, *, data: Feeds | None = None, provider: str = "cpu"
) -> Verification:
    """Runs the original model, the model after the exact repairs and the repaired model, and compares their outputs.

    Args:
        model: the original model.
        result: its repair.
        folder: the folder that contains the external data.
        data: inputs, one mapping per sample from input name to array; seeded noise if None.
        provider: "cpu" or "cuda".

    Raises:
        RepairError: the exact repairs are not bit-exact on these inputs, which is a defect of a rule.
        ModelError: onnxruntime cannot run the model on `data`.
    """
    if not runtime.available():
        return Verification({}, note="skipped: onnxruntime is not installed (qdqgraph[ort])")
    name, note = runtime.provider(provider)
    feeds: Feeds = inputs.noise(model) if data is None else data
    try:
        original = runtime.run(model, feeds, folder, name)
    except ModelError as error:
        if data is not None:
            raise
        return Verification({}, note=f"skipped: {error}")
    outputs = [o.name for o in model.graph.output]

    def against(other: onnx.ModelProto) -> dict[str, comparison.Agreement]:
        found = original if other is model else runtime.run(other, feeds, folder, name)
        columns = range(len(outputs))
        return {outputs[i]: comparison.agreement([o[i] for o in original], [o[i] for o in found]) for i in columns}

    exact = against(result.exact)
    broken = [f"{o} ({a.sqnr:.1f} dB)" for o, a in exact.items() if not a.identical]
    if broken and any(not a.identical for a in comparison.compare(model, model, feeds, folder, name).values()):
        return Verification({}, note="skipped: the model's outputs are random")
    if broken:
        codes = ", ".join(sorted({f.code for f in result.applied if f.safety.value == "exact"}))
        raise RepairError(f"repairs declared bit-exact ({codes}) change the outputs {', '.join(broken)}")
    final = exact if result.model is result.exact else against(result.model)
    return Verification(final, len(feeds), data is not None, note, getattr(data, "description", ""))
