"""Numeric verification: compares a repaired model with the original in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..calibration.agreement import FIXED, Agreement
from ..calibration.trial import run_on_noise
from ..errors import ModelError, QdqgraphError, RepairError
from ..extras import install_hint
from ..model import runtime
from ..model.protos import reads
from ..model.runtime import Feeds
from ..model.seeds import random_nodes
from ..repair.repair import Repair
from ..rulekit.rule import Rule
from .comparison import compared
from .floats import float_reference
from .kept import Kept

NOISY = 30.0
"""Below this SQNR in dB, both models are compared with the float values."""


@dataclass(frozen=True)
class Sides:
    """The SQNR in dB of one output of the original and of the repaired model against the float values."""

    original: float
    repaired: float


@dataclass(frozen=True)
class Verification:
    """The result of the numeric check.

    Attributes:
        outputs: the agreement of each output of the repaired model with the original, by output name.
        samples: number of samples.
        data: whether the samples were given; False for seeded noise.
        note: what else to know of the check, such as another provider or another reference; "" otherwise.
        source: where the samples come from and what was done to them; "" for noise.
        skipped: why nothing was compared; "" if the outputs were.
        floats: the distances from the float values, by output name: of outputs below `NOISY`, if the model computes in
            float.
        reference: the model that the repaired one is compared with: the input, if onnxruntime runs it.
    """

    outputs: dict[str, Agreement]
    samples: int = 0
    data: bool = False
    note: str = ""
    source: str = ""
    skipped: str = ""
    floats: dict[str, Sides] = field(default_factory=dict)
    reference: str = "the input"

    @property
    def warning(self) -> str:
        """A sentence for the user if the check shows nothing; "" otherwise."""
        if self.skipped:
            return f"the repaired model was not compared with the original: {self.skipped}"
        if self.outputs and all(a.blank for a in self.outputs.values()):
            more, found = "other inputs" if self.data else "inputs", next(iter(self.outputs.values())).caveat
            return f"the numeric check shows nothing: every output is {found}; give {more} with --data"
        return ""


def verify(
    model: onnx.ModelProto,
    result: Repair,
    folder: Path,
    *,
    data: Feeds | None = None,
    provider: str = "cpu",
    rules: Sequence[Rule] = (),
) -> Verification:
    """Runs the original model, the model after the exact repairs and the repaired model, and compares their outputs.

    If onnxruntime does not run the original, the first of these that it runs is the reference: the original with its
    functions inlined and its opset raised, then the model after the exact repairs.

    Args:
        model: the original model.
        result: its repair.
        folder: the folder that contains the external data.
        data: inputs, one mapping per sample from input name to array; seeded noise that runs if None.
        provider: "cpu" or "cuda".
        rules: the rules of the repair; those that replace quantized operators make the float reference.

    Raises:
        RepairError: the exact repairs are not bit-exact on these inputs, which is a defect of a rule.
        ModelError: onnxruntime cannot run the model on `data`.
    """
    if not runtime.available():
        return Verification({}, skipped=f"onnxruntime is not installed ({install_hint('ort')})")
    with ExitStack() as files:
        return _Check(result, folder, data, provider, rules, files).run(model)


@dataclass(frozen=True)
class _Run:
    """Samples, and what a model computed from each."""

    feeds: Feeds
    outputs: Kept


class _Check:
    """A numeric check; arguments as `verify`, and what closes the files of outputs."""

    def __init__(
        self,
        result: Repair,
        folder: Path,
        data: Feeds | None,
        provider: str,
        rules: Sequence[Rule],
        files: ExitStack,
    ) -> None:
        self.result, self.folder, self.data, self.rules, self.files = result, folder, data, rules, files
        self.provider, self.note = runtime.provider(provider)

    def run(self, model: onnx.ModelProto) -> Verification:
        try:
            reference, model, first, reason = self._reference(model)
        except ModelError as error:
            if self.data is not None:
                raise
            return Verification({}, skipped=str(error))
        result = self.result
        if reason and model is result.model:
            return Verification({}, skipped=f"{reason}; the repaired model runs, and is {reference}")
        note = "; ".join(filter(None, (self.note, reason)))
        names, random = [o.name for o in model.graph.output], any(random_nodes(model.graph))

        def against(other: onnx.ModelProto) -> tuple[dict[str, Agreement], Kept]:
            found = first.outputs if other is model else self._kept(self._outputs(other, first.feeds))
            return compared(names, first.outputs, found), found

        exact, final_outputs = against(result.exact)
        broken = [f"{o} ({a.sqnr:.1f} dB)" for o, a in exact.items() if not a.identical]
        again = compared(names, first.outputs, self._outputs(model, first.feeds)) if broken else {}
        if broken and (random or any(not a.identical for a in again.values())):
            return Verification({}, skipped="the model's outputs are random, and differ from run to run")
        if broken:
            codes = ", ".join(sorted({f.code for f in result.applied if f.safety.value == "exact"}))
            raise RepairError(f"repairs declared bit-exact ({codes}) change the outputs {', '.join(broken)}")
        final = exact
        if result.model is not result.exact:
            final, final_outputs = against(result.model)
        if self.data is None and not random and final is not exact and all(a.identical for a in final.values()):
            final = self._moved(model, first, names, final)
        loose = _independent(model)
        final = {n: replace(a, caveat=a.caveat or FIXED) if n in loose else a for n, a in final.items()}
        shown = next(zip(first.outputs, final_outputs, strict=True))
        alike = [np.shape(a) == np.shape(b) for a, b in zip(*shown, strict=True)]
        noisy = [n for n, same_shape in zip(names, alike, strict=True) if same_shape and final[n].sqnr < NOISY]
        floats = self._floats(model, first, final_outputs, noisy) if noisy else {}
        if random:
            note = "; ".join(filter(None, (note, "the model draws random numbers; both models drew the same ones")))
        return Verification(
            final,
            len(first.outputs),
            self.data is not None,
            note,
            getattr(self.data, "description", ""),
            floats=floats,
            reference=reference,
        )

    def _moved(
        self, model: onnx.ModelProto, first: _Run, names: Sequence[str], final: dict[str, Agreement]
    ) -> dict[str, Agreement]:
        """The agreements, with a caveat for outputs that are the same for another input: with scales that are far too
        small, a network computes constants, and every repair of it is bit-identical."""
        feeds = [{name: _reversed(array) for name, array in feed.items()} for feed in first.feeds]
        both = zip(first.feeds, feeds, strict=True)
        if all(np.array_equal(array, turned[name]) for feed, turned in both for name, array in feed.items()):
            return final  # every input has one value
        try:
            other = compared(names, first.outputs, self._outputs(model, feeds))
        except ModelError:  # integers may have to be in order, such as those of a shape
            return final
        return {n: replace(a, caveat=a.caveat or FIXED) if other[n].identical else a for n, a in final.items()}

    def _outputs(self, model: onnx.ModelProto, feeds: Feeds, *, packed: bool = True) -> Iterator[list[Any]]:
        return runtime.Session(model, self.folder, self.provider, packed=packed).each(feeds)

    def _kept(self, outputs: Iterable[Sequence[Any]]) -> Kept:
        return self.files.enter_context(Kept(outputs))

    def _reference(self, model: onnx.ModelProto) -> tuple[str, onnx.ModelProto, _Run, str]:
        """Returns the reference's description, the reference, its run, and why it is not the original, else "".

        Raises:
            ModelError: onnxruntime runs neither the original nor what equals it.
        """
        result = self.result
        raised = "" if result.opset is None else f" in opset {result.opset.after}"
        candidates = (
            ("the input", model),
            (f"the input{raised}{' with its functions inlined' if result.functions else ''}", result.start),
            ("the input after its exact repairs", result.exact),
        )
        first: ModelError | None = None
        for what, candidate in candidates:
            try:
                if self.data is None:
                    noise = run_on_noise(candidate, self.folder, self.provider)
                    run = _Run(noise.feeds, self._kept(noise.outputs))
                else:
                    run = _Run(self.data, self._kept(self._outputs(candidate, self.data)))
            except ModelError as error:
                first = first or error
            else:
                return what, candidate, run, "" if first is None else f"the input does not run: {first}"
        assert first is not None
        raise first

    def _floats(
        self, model: onnx.ModelProto, first: _Run, final: Iterable[Sequence[Any]], noisy: Sequence[str]
    ) -> dict[str, Sides]:
        """Returns how far both models are from the float values; nothing if the model cannot be computed in float."""
        try:
            floats = float_reference(model, self.rules, self.folder)
            real = self._kept(self._outputs(floats, first.feeds, packed=False))
        except QdqgraphError:
            return {}
        names = [o.name for o in model.graph.output]
        before, after = compared(names, real, first.outputs), compared(names, real, final)
        return {n: Sides(before[n].sqnr, after[n].sqnr) for n in noisy}


def _reversed(array: np.ndarray) -> np.ndarray:
    """Other values of the same kind: in reverse order, and floating-point numbers with the opposite sign."""
    other = array.reshape(-1)[::-1].reshape(array.shape)
    return -other if array.dtype.kind == "f" else other


def _independent(model: onnx.ModelProto) -> set[str]:
    """Returns the outputs that no input reaches."""
    reached = {i.name for i in model.graph.input} - {i.name for i in model.graph.initializer}
    reached |= {name for node in random_nodes(model.graph) for name in node.output}
    for node in model.graph.node:
        if any(name in reached for name in reads(node)):
            reached.update(node.output)
    return {o.name for o in model.graph.output} - reached
