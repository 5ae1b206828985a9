"""Runs one float network through the whole flow: quantize, link, calibrate, rank, train, export, check, run the file.

A network is ok if every step works, `check` reports nothing in the file, the file computes what the quantized model
computes, and every weighted layer that is left in float is named by a step. Otherwise the outcome is one sentence.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

import qdqgraph
from qdqgraph import torch as side
from qdqgraph.calibration.agreement import agreement
from qdqgraph.engines.share import WEIGHTED_KERNELS
from qdqgraph.graph.selectors import path_of
from qdqgraph.model.runtime import run
from qdqgraph.operators import WEIGHTED
from qdqgraph.rulekit import Graph
from qdqgraph.torch.calls.example import arguments, example_tensors, output_tensors
from qdqgraph.torch.linking.floats import LAYERS

AGREES = 30.0
"""dB of the file against the quantized model, below which the difference is reported: rounding differs on ties."""
NOISE, MARGIN = 2.0**-20, 6.0
"""Relative error of a sum of some hundred float32 terms in another order, and dB by which two such disturbances of one
network may differ."""
STEPS = 2
"""Batches of the training step."""


@dataclass(frozen=True)
class Outcome:
    """What the flow did to one network.

    Attributes:
        sentence: "ok", or what is wrong, with the step.
        weighted, int8: convolutions and matrix products with weights in the file, and those with both operands
            quantized; convolutions, int8_convolutions: the convolutions among them.
        said: what the steps reported: layers left in float, places without a quantizer, quantizers without data.
        silent: weighted layers in float that no step named.
        findings: codes of `check`.
        sqnr: dB of the file in ONNX Runtime against the quantized model, the worst output.
        file: the ONNX file; None if none was written.
    """

    sentence: str
    weighted: int = 0
    int8: int = 0
    convolutions: int = 0
    int8_convolutions: int = 0
    groups: int = 0
    added: int = 0
    said: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    sqnr: float = float("nan")
    file: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether every step worked and nothing is lost in silence."""
        return self.sentence == "ok"


@dataclass
class Flow:
    """The flow on one network.

    Attributes:
        build: the float network in eval mode; the same at each call.
        batches: inputs, each as an example of `export`; the first is the example.
        blocks: what `sensitivity` ranks, with one run of the model for each; None: each unit.
        opset: of the file; None: the exporter's default.
    """

    build: Callable[[], nn.Module]
    batches: Sequence[Any]
    file: Path
    blocks: Sequence[str] | None = None
    opset: int | None = None
    config: side.Config | None = None
    said: list[str] = field(default_factory=list)
    step: str = ""

    def run(self) -> Outcome:
        """Runs all steps; an error of the package is a sentence, any other one is a fault of the package."""
        try:
            return self._run()
        except qdqgraph.QdqgraphError as error:
            return Outcome(f"{self.step}: {str(error).splitlines()[0]}", said=tuple(self.said))
        except Exception as error:  # noqa: BLE001  # what the package should have explained
            where = traceback.extract_tb(error.__traceback__)[-1]
            reason = (str(error).splitlines() or [""])[0]
            text = f"TRACEBACK in {self.step}: {type(error).__name__}: {reason} ({Path(where.filename).name})"
            return Outcome(text, said=tuple(self.said))

    def _run(self) -> Outcome:
        model, teacher, example, said = self.build(), self.build(), self.batches[0], self.said
        self.step = "fold_norms"
        side.fold_norms(model, example)
        side.fold_norms(teacher, example)
        self.step = "quantize"
        done = side.quantize(model, self.config, example)
        said += [f"left in float: {n} {done.reasons.get(n, '')}".strip() for n in done.left]
        said += [f"ignored: {n}" for n in done.ignored]
        self.step = "link"
        linked = side.link(model, example, opset=self.opset)
        left = [f.code for f in linked.left]
        said += [*linked.unmapped, *linked.in_float]
        said += [f"link leaves {left.count(code)} {code}" for code in sorted(set(left))]
        said += [f"disabled: {n}" for n in linked.disabled]
        self.step = "calibrate"
        calibrated = side.calibrate(model, self.batches, feed=feed, progress=False)
        said += [f"clips: {n}" for n in calibrated.clipped]
        unusable = {"unseen": calibrated.unseen, "zero": calibrated.zero, "not finite": calibrated.broken}
        said += [f"{what}: {', '.join(names)}" for what, names in unusable.items() if names]
        self.step = "sensitivity"
        self._rank(model, teacher)
        self.step = "finetune"
        how = side.Training(epochs=1, steps=STEPS, rate=1e-5)
        faults = []
        try:
            side.finetune(model, teacher, self.batches, training=how, feed=feed, progress=said.append)
        except qdqgraph.QdqgraphError as error:
            faults.append(f"finetune: {error}")
        said[:] = [s for s in said if not s.startswith("epoch ")]
        self.step = "export"
        zero = bool(calibrated.zero)
        written = side.export(model, example, self.file, opset=self.opset, allow_zero=zero, force=True)
        self.step = "check"
        codes = tuple(f.code for f in qdqgraph.check(written, qdqgraph.rules()))
        self.step = "run"
        sqnr = self._agreement(model, written)
        layers = weighted_layers(written)
        silent = tuple(n.name for n in layers if not n.int8 and not _is_named(n, said))
        faults += [f"check reports {', '.join(sorted(set(codes)))}"] if codes else []
        if sqnr < AGREES:
            own = self_agreement(model, example)
            text = f"the file differs from the model ({sqnr:.0f} dB), as the model does from itself ({own:.0f} dB)"
            (said if sqnr > own - MARGIN else faults).append(text)
        lost = [q for q in linked.disabled if any(q.startswith(f"{n.path}.") and not n.int8 for n in layers)]
        faults += [f"QUANTIZER LOST: {', '.join(lost)}"] if lost else []
        faults += [f"SILENT: in float, not named: {', '.join(silent)}"] if silent else []
        return Outcome(
            "; ".join(faults) or "ok",
            len(layers),
            sum(n.int8 for n in layers),
            sum(n.convolves for n in layers),
            sum(n.convolves and n.int8 for n in layers),
            len(linked.groups),
            len(linked.added),
            tuple(said),
            silent,
            codes,
            sqnr,
            self.file,
        )

    def _rank(self, model: nn.Module, teacher: nn.Module) -> None:
        """Ranks the units by the output's agreement with the float network."""
        expected = answers(teacher, self.batches[:1])

        def score(net: nn.Module) -> float:
            return min(agreement([r], [f]).sqnr for r, f in zip(expected, answers(net, self.batches[:1]), strict=True))

        side.sensitivity(model, score, blocks=self.blocks)

    def _agreement(self, model: nn.Module, written: onnx.ModelProto) -> float:
        """dB of the file against the quantized model, the worst output; inf if they are equal, nan if not compared."""
        if any(x.dtype == torch.bfloat16 for x in model.parameters()):
            self.said.append("not compared: ONNX Runtime has no bfloat16 convolution")
            return math.nan
        feeds = [feeds_of(written, example) for example in self.batches[:1]]
        found = run(written, feeds, self.file.parent)[0]
        expected = answers(model, self.batches[:1])
        if len(found) != len(expected):
            raise qdqgraph.QdqgraphError(f"the file has {len(found)} outputs, and the model {len(expected)}")
        return min(agreement([r], [f]).sqnr for r, f in zip(expected, found, strict=True))


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product of the file, by the forecast.

    Attributes:
        name: of its node; path: of the module whose forward runs it.
    """

    name: str
    path: str
    convolves: bool
    int8: bool


def _is_named(layer: Layer, said: Sequence[str]) -> bool:
    return any(layer.path in sentence if layer.path else "the model" in sentence for sentence in said)


def weighted_layers(model: onnx.ModelProto) -> list[Layer]:
    """The convolutions and matrix products of a file, without those of constants."""
    nodes, graph = {node.name: node for node in model.graph.node}, Graph(model)
    found = []
    for layer in qdqgraph.forecast(model).layers:
        if layer.kind in WEIGHTED_KERNELS:
            name = next(n for n in layer.nodes if n in nodes and nodes[n].op_type in WEIGHTED)
            if graph.is_constant(nodes[name].input[0]):
                continue
            path, convolves = path_of(nodes[name]), "Conv" in nodes[name].op_type
            found.append(Layer(name, path, convolves, layer.precision == "INT8"))
    return found


def feed(model: nn.Module, example: Any) -> Any:
    """Runs a model on an example."""
    args, kwargs = arguments(example)
    return model(*args, **kwargs)


def answers(model: nn.Module, batches: Sequence[Any]) -> list[np.ndarray]:
    """The tensors of the model's outputs in eval mode, of all batches in turn."""
    model.eval()
    with torch.no_grad():
        found = [x for batch in batches for x in output_tensors(feed(model, batch))]
    return [x.float().numpy() if x.dtype == torch.bfloat16 else x.numpy() for x in found]


def self_agreement(model: nn.Module, example: Any) -> float:
    """dB of a model against itself with relative errors of `NOISE` at the outputs of its layers, the least of several
    runs: where a value lies on the midpoint between two steps, any two implementations differ that much."""
    generator = torch.Generator().manual_seed(0)

    def disturb(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output * (1 + NOISE * torch.randn(output.shape, generator=generator))

    expected = answers(model, [example])
    handles = [m.register_forward_hook(disturb) for m in model.modules() if isinstance(m, LAYERS)]
    runs = [answers(model, [example]) for _ in range(8)]
    for handle in handles:
        handle.remove()
    return min(agreement([r], [f]).sqnr for found in runs for r, f in zip(expected, found, strict=True))


def feeds_of(model: onnx.ModelProto, example: Any) -> dict[str, np.ndarray]:
    """An example as inputs of the file, which lacks those that its outputs do not depend on."""
    names = [value.name for value in model.graph.input]
    tensors = [x.numpy() for x in example_tensors(example)]
    return dict(zip(names, tensors, strict=True))
