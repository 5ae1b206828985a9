"""`Session`: the steps common to all calls of the pipeline, from the user's functions to a calibrated network."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor, nn

from ...errors import ModelError, TorchError
from ...log import Progress
from ..calibration.calibrate import Calibrated, calibrate, first_entry, to_model
from ..comparison.compare import Comparison, compare_export
from ..linking.link import Linked, link
from ..quantization.config import Config
from ..quantization.fold import fold_norms
from ..quantization.replace import Quantized, quantize
from ..quantizer.provenance import provenance
from ..quantizer.quantizer import quantizers
from ..training.checkpoint import ENTRY, read_checkpoint
from ..training.sensitivity import apply_sensitivity, layers_to_disable
from ..training.state import load, restore_content
from .options import Exporting, FloatUnits, Network, Preparation


class FirstInputError(TorchError):
    """The network fails on the first input of its data; the cause is its own exception."""


@dataclass(frozen=True)
class Prepared:
    """A calibrated network, and the result of each step.

    Attributes:
        model: quantized and calibrated.
        float_model: the original network in eval mode, its BatchNorms folded.
        example: the first input, with the device and type of `model`.
        scores: by step, in order: "float", "calibrated", "calibrated again"; empty without a function that scores.
        quantized, linked, calibrated: the results of these steps; None if a saved state was loaded instead. `linked`
            and `calibrated` are those of the last run.
        in_float: layers whose quantizers were disabled by a ranking.
    """

    model: nn.Module
    float_model: nn.Module
    example: Tensor
    scores: Mapping[str, float]
    quantized: Quantized | None
    linked: Linked | None
    calibrated: Calibrated | None
    in_float: tuple[str, ...]


class Session:
    """One run: the float network, its first input, and the scores so far.

    Raises:
        TorchError: the model is not a torch module, the data yield no input, or the network fails on the first one.
    """

    def __init__(self, network: Network, progress: Progress, *, bar: bool) -> None:
        self.network, self.progress, self.bar = network, progress, bar
        self.scores: dict[str, float] = {}
        float_model = network.model()
        if not isinstance(float_model, nn.Module):
            kind = type(float_model).__name__
            raise TorchError(f"{network.option('model')} returns a {kind}, which is not a torch module")
        self.float_model = float_model.to(network.device)
        self.example = self._first_input()
        self.float_model.eval()
        try:
            self.float_model(self.example)
        except (Exception, SystemExit) as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            model = network.option("model")
            raise FirstInputError(f"{model} fails on the first input: {type(error).__name__}: {reason}") from error

    def _first_input(self) -> Tensor:
        batches, data = self.network.data(), self.network.option("data")
        if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
            raise TorchError(f"{data} gives {type(batches).__name__}, which yields no batches")
        if isinstance(batches, Iterator) and self.network.data() is batches:
            raise TorchError(
                f"{data} returns the same {type(batches).__name__} at each call, which yields its batches only once: "
                "create it inside the function, or return a list"
            )
        batch = next(iter(batches), batches)
        if batch is batches:
            raise TorchError(f"{data} yields nothing")
        x, _ = first_entry(batch)
        if not isinstance(x, Tensor):
            raise TorchError(f"{data} yields {type(x).__name__}; the first entry must be the input")
        return to_model(self.float_model, x)

    def evaluate(self, model: nn.Module) -> float:
        """The user's score of a network.

        Raises:
            TorchError: it is not a number.
        """
        assert self.network.evaluate is not None
        score: Any = self.network.evaluate(model)
        try:
            number = float(score)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise TorchError(f"{self.network.option('evaluate')} returns {score!r}, which is not a number")
        return number

    def score(self, step: str, model: nn.Module) -> None:
        """Scores the network after a step, if there is a function that scores."""
        if self.network.evaluate is not None:
            self.scores[step] = self.evaluate(model)
            self.progress(f"{step}: {self.scores[step]:.6g}")

    def compare(self, model: nn.Module, file: onnx.ModelProto, batches: int) -> Comparison | None:
        """Compares the file with the network on the first batches, and reports it; None, with the reason reported, if
        that is not possible."""
        try:
            found = compare_export(
                model, file, self.example, self.network.data(), batches=batches, progress=self.progress
            )
        except (TorchError, ModelError) as error:
            self.progress(f"not compared with ONNX Runtime: {error}")
            return None
        self.progress(str(found))
        return found

    def prepare(
        self,
        how: Preparation,
        exporting: Exporting,
        off: FloatUnits | None = None,
        refuse: Callable[[nn.Module], object] = lambda model: None,
        checkpoint: Path | None = None,
    ) -> Prepared:
        """The network quantized, linked and calibrated, or with a saved state.

        Args:
            off: units to leave in float.
            checkpoint: of an interrupted training run, whose network is restored instead.
            refuse: raises if the quantized network is not valid for the next step; called before calibration.

        Raises:
            TorchError: a step fails, or nothing is quantized.
        """
        fold_norms(self.float_model, self.example)
        self.score("float", self.float_model)
        model = self._copied()
        quantized = linked = calibrated = None
        if checkpoint is not None:
            return self._resumed(model, checkpoint, off)
        if how.load is not None:
            found = load(model, how.load, force=how.force_load).differences
            for sentence in found:
                self.progress(f"{how.load} differs: {sentence}")
            calibrated = self._calibrate_missing(model, how) if found else None
        else:
            quantized = self._quantize(model, how)
            linked = self._link(model, how, exporting) if how.link else None
        refuse(model)
        if off is not None:
            layers_to_disable(model, off.ranking, top=off.top, budget=off.budget)
        if how.load is None:
            calibrated = self._calibrate(model, how)
        self.score("calibrated", model)
        in_float: tuple[str, ...] = ()
        if off is not None:
            in_float, again = self._disable_units(model, how, exporting, off)
            linked, calibrated = again or linked, self._calibrate(model, how)
            self.score("calibrated again", model)
        return Prepared(
            model, self.float_model, self.example, dict(self.scores), quantized, linked, calibrated, in_float
        )

    def _resumed(self, model: nn.Module, checkpoint: Path, off: FloatUnits | None) -> Prepared:
        """The network of an interrupted training run; its scores before training are those of that run."""
        content = read_checkpoint(checkpoint)
        restore_content(model, content, checkpoint)
        run = content[ENTRY]["run"]
        if run["scores"]:
            self.scores["calibrated" if off is None else "calibrated again"] = run["scores"][0]
        layers = () if off is None else layers_to_disable(model, off.ranking, top=off.top, budget=off.budget)
        return Prepared(model, self.float_model, self.example, dict(self.scores), None, None, None, layers)

    def _copied(self) -> nn.Module:
        try:
            return copy.deepcopy(self.float_model)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise TorchError(f"{self.network.option('model')}: the network cannot be copied: {reason}") from error

    def _quantize(self, model: nn.Module, how: Preparation) -> Quantized:
        config = Config.read(how.config) if isinstance(how.config, Path) else how.config
        done = quantize(model, config, self.example, backend=how.backend)
        for name in done.left:
            reason = f" ({done.reasons[name]})" if name in done.reasons else ""
            self.progress(f"left in float, no quantized counterpart: {name}{reason}")
        if not done.replaced:
            option = self.network.option("model")
            raise TorchError(f"{option} has no layer that can be quantized, or the configuration ignores them all")
        return done

    def _link(self, model: nn.Module, how: Preparation, exporting: Exporting) -> Linked:
        done = link(model, self.example, how.rules, dynamo=exporting.dynamo, opset=exporting.opset)
        self._report_link(done)
        return done

    def _report_link(self, done: Linked) -> None:
        added, disabled = len(done.added), len(done.disabled)
        self.progress(f"linked: {len(done.groups)} groups, {added} quantizers added, {disabled} disabled")
        for sentence in done.unmapped:
            self.progress(f"not linked: {sentence}")
        for sentence in done.in_float:
            self.progress(f"in float: {sentence}")

    def _calibrate(self, model: nn.Module, how: Preparation) -> Calibrated:
        data, method, percentile, batches = self.network.data(), how.method, how.percentile, how.batches
        last = provenance(model)
        if how.load is not None and last.calibrated:
            batches = batches or last.batches
            if not method and percentile is None:
                self.progress(f"calibrating as {how.load} was: {last}")
        done = calibrate(model, data, batches, method, percentile=percentile, progress=self.bar)
        self.progress(str(done))
        return done

    def _calibrate_missing(self, model: nn.Module, how: Preparation) -> Calibrated | None:
        """Calibrates the quantizers that have no amax after a forced load; None if all have one."""
        enabled = {name: q for name, q in quantizers(model).items() if not q._disabled}
        known = [q for q in enabled.values() if q.amax is not None]
        if len(known) == len(enabled):
            return None
        for quantizer in known:
            quantizer.disable()
        try:
            return self._calibrate(model, how)
        finally:
            for quantizer in known:
                quantizer.enable()

    def _disable_units(
        self, model: nn.Module, how: Preparation, exporting: Exporting, off: FloatUnits
    ) -> tuple[tuple[str, ...], Linked | None]:
        """Disables the quantizers of the most expensive units, and links the rest again."""
        layers, linked = apply_sensitivity(
            model,
            off.ranking,
            top=off.top,
            budget=off.budget,
            example=self.example if how.link else None,
            rules=how.rules,
            dynamo=exporting.dynamo,
            opset=exporting.opset,
        )
        self.progress(f"in float: {', '.join(layers) or 'no unit exceeds the budget'}")
        if linked is not None:
            self._report_link(linked)
        return layers, linked


class EpochData(Iterable[Any]):
    """The user's data, created again for each pass, and once for their length: so that a pass does not depend on what
    was asked before."""

    def __init__(self, create: Callable[[], Iterable[Any]]) -> None:
        self._create = create

    def __length_hint__(self) -> int:
        return operator.length_hint(self._create())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._create())
