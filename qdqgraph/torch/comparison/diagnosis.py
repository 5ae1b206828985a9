"""Where an exported file begins to differ from the model: layer by layer, on equal integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from ...graph.graph import key, label
from ...graph.pair import Pair
from ...graph.selectors import path_of
from ...model.runtime import Session
from ...operators import PAIRS
from ..quantizer.base import Quantizer
from .calls import Call
from .forcing import Forced, integer_input, integer_type
from .judging import Difference, Integers, compare_integers, difference
from .observing import At, Rounding, observed_layers, observed_quantizers

REORDERING = frozenset({"TopK", "NonMaxSuppression", "ArgMax", "ArgMin", "Unique"})
"""Operators whose result depends on which of two nearly equal values is larger."""


@dataclass(frozen=True)
class Start:
    """Where the file begins to differ from the model.

    Attributes:
        layer: the path of a module, or of the module that computes it and an operator; of a call with a quantizer, the
            path of that; the name of an output.
        what: what differs there.
        difference: how much; None: the integers differ, from equal values.
        unforced: paths or tensors of pairs upstream of it whose quantizers have no known counterpart: their rounding
            may explain the difference.
    """

    layer: str
    what: str
    difference: Difference | None
    unforced: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.layer}: {self.what}" + (f", {self.difference}" if self.difference is not None else "")
        if self.unforced:
            text += f"; the rounding of {', '.join(self.unforced[:3])} may explain it, whose quantizer is not known"
        return text


@dataclass(frozen=True)
class Diagnosis:
    """What a file computes in each layer, from the integers that the model has there.

    Attributes:
        starts: where it differs by more than arithmetic in another order explains, in execution order.
        places: how many tensors were compared: the inputs of quantizers, and the outputs.
        least: the least SQNR of them, in dB.
        integers: how many integers were compared, and how many of them differ because their values lie on rounding
            ties.
        unknown: quantizers without a known counterpart in the file, by path, and pairs without a known quantizer, by
            tensor.
    """

    starts: tuple[Start, ...]
    places: int
    least: float
    integers: Integers
    unknown: tuple[str, ...]


def diagnose(
    model: nn.Module, file: onnx.ModelProto, folder: Path, call: Call, names: Iterable[str], precision: float
) -> Diagnosis:
    """Compares every layer on one call.

    Args:
        model: quantized and calibrated, inside `quiet_run`.
        file: its export; folder: where external data lie.
        call: the arguments, with the inputs of the file.
        names: the outputs of the file that are compared.
        precision: of the model's type.

    Raises:
        ModelError: ONNX Runtime cannot run the file.
        TorchError: the model fails.
    """
    return _Diagnosing(model, file, folder, call, tuple(names), precision).run()


@dataclass
class _Diagnosing:
    model: nn.Module
    file: onnx.ModelProto
    folder: Path
    call: Call
    names: tuple[str, ...]
    precision: float
    _starts: list[tuple[str, Start]] = field(default_factory=list)
    _differing: set[str] = field(default_factory=set)
    _least: float = np.inf
    _places: int = 0
    _integers: Counter[str] = field(default_factory=Counter)

    def run(self) -> Diagnosis:
        collected: dict[At, NDArray[np.int16]] = {}
        paths: dict[At, tuple[str, ...]] = {}

        def collect(seen: Rounding) -> None:
            collected[seen.at], paths[seen.at] = seen.integers.astype(np.int16), seen.paths

        with observed_quantizers(self.model, collect):
            self.call.repeat(self.model)
        self.forced = Forced.of(self.file, paths.items())
        self.feed = {**self.call.feed, **self._integer_inputs(collected)}
        taps = {pair.tensor for pair in self.forced.pairs.values()}
        taps |= {key(pair.quantize) for pair in self.forced.pairs.values() if pair.quantize is not None}
        self.found = self._run(taps)
        with observed_quantizers(self.model, self._compare):
            outputs = self.call.repeat(self.model)
        for name, expected in zip(self._output_names(), outputs, strict=True):
            if name in self.names and expected.dtype.kind == "f":
                self._judge(name, name, expected, self.found[name], "")
        starts = dict.fromkeys(found for at, start in self._starts if (found := self._narrowed(at, start)) is not None)
        known = {at.path for at in self.forced.pairs}
        unknown = dict.fromkeys(at.path for at in paths if at.path not in known)
        tensors = [pair.tensor for pair in self.forced.unforced] if not unknown else []
        counts = Integers(self._integers["count"], self._integers["ties"], self._integers["others"])
        return Diagnosis(tuple(starts), self._places, float(self._least), counts, (*unknown, *tensors))

    def _integer_inputs(self, collected: Mapping[At, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {integer_input(p): collected[at].astype(integer_type(p)) for at, p in self.forced.pairs.items()}

    def _output_names(self) -> list[str]:
        return [output.name for output in self.file.graph.output]

    def _run(self, taps: Iterable[str]) -> dict[str, NDArray[Any]]:
        """The outputs of the file and these tensors, on the model's integers."""
        wanted = [name for name in dict.fromkeys(taps) if self.forced.tappable(name)]
        (found,) = Session(self.forced.model(wanted), self.folder).run([self.feed])
        return dict(zip([*self._output_names(), *wanted], map(np.asarray, found), strict=True))

    def _compare(self, seen: Rounding) -> None:
        """One run of one quantizer: its input, then its integers."""
        pair = self.forced.pairs.get(seen.at)
        if pair is None or pair.quantize is None:
            return
        layer = seen.quantizer.library.layer_of(seen.at.path)
        values = seen.values.detach().float().numpy()
        weight = seen.quantizer.library.is_weight(seen.at.path)
        stored = self.found.get(pair.tensor, self.forced.graph.value(pair.tensor))
        if stored is not None and not self._judge(
            pair.tensor, layer, values, stored.astype(np.float32), "its weights differ" if weight else ""
        ):
            return
        integers = self.found.get(key(pair.quantize))
        if integers is None:
            return
        found = compare_integers(seen.integers, integers, values, seen.scale, self.precision)
        self._integers.update(count=found.count, ties=found.ties, others=found.others)
        if found.others:
            self._differing.add(key(pair.quantize))
            what = (
                f"{found.others:,} of {found.count:,} integers {'of its weights' if weight else 'of its input'} differ"
            )
            self._starts.append(("", Start(layer, f"{what}: {_scales(pair, seen)}", None)))

    def _judge(self, tensor: str, layer: str, expected: NDArray[Any], found: NDArray[Any], what: str) -> bool:
        """Compares a tensor; returns whether it agrees. `what`: what differs, if the layer is certain."""
        how = difference([expected], [found], self.precision)
        self._places, self._least = self._places + 1, min(self._least, how.sqnr)
        if not how.explained:
            self._starts.append(("" if what else tensor, Start(layer, what or "its input differs", how)))
        return how.explained

    def _narrowed(self, tensor: str, start: Start) -> Start | None:
        """The first layer upstream whose output differs, if one can be identified; None if a pair upstream of it
        differs, which explains it."""
        if not tensor:
            return start
        nodes = list(self.forced.upstream(tensor))
        if any(node.inputs[0].name in self._differing for node in nodes if node.op == "DequantizeLinear"):
            return None
        if any(node.op in REORDERING for node in nodes) and tensor in self._output_names():
            what = "it selects or sorts; nearly equal values may come in another order"
            return Start(start.layer, what, start.difference)
        own = {pair.key for pair in self.forced.unforced}
        unforced = tuple(node.inputs[0].name for node in nodes if key(node) in own)
        layers = self._layers({key(node) for node in nodes})
        found = self._run(layers.values())
        seen: dict[str, list[Difference]] = {}

        def see(path: str, expected: NDArray[Any]) -> None:
            if layers[path] in found:
                seen.setdefault(path, []).append(difference([expected], [found[layers[path]]], self.precision))

        with observed_layers(self.model, layers, see):
            self.call.repeat(self.model)
        once = [(path, how[0]) for path, how in seen.items() if len(how) == 1 and not how[0].explained]
        if once:
            return Start(once[0][0], "its output differs", once[0][1], unforced)
        last = self.forced.graph.producer(tensor)
        if last is None:
            return Start(start.layer, start.what, start.difference, unforced)
        proto = self.forced.graph.proto(last)
        where = path_of(proto) or label(last)
        return Start(where, f"the output of its {proto.op_type} differs", start.difference, unforced)

    def _layers(self, inside: set[str]) -> dict[str, str]:
        """The last tensors that modules which contain no other layer compute, by path; those in a part of the graph
        only. A module that runs several times has one of them, which no run is compared with."""
        nodes: dict[str, list[str]] = {}
        for node in self.file.graph.node:
            if node.op_type not in PAIRS and node.op_type != "Constant":
                nodes.setdefault(path_of(node), []).append(node.output[0])
        leaves: Iterator[str] = (
            path
            for path, module in self.model.named_modules()
            if path and path in nodes and all(isinstance(child, Quantizer) for child in module.children())
        )
        return {path: nodes[path][-1] for path in leaves if nodes[path][-1] in inside}


def _scales(pair: Pair, seen: Rounding) -> str:
    """Scale and zero-point of a pair beside a quantizer's scale."""
    theirs = np.ravel(np.zeros(0) if pair.scale is None else pair.scale.astype(np.float64))
    ours = np.ravel(seen.scale)
    if theirs.size != ours.size:
        return f"the file has {theirs.size} scales, the model {ours.size}"
    at = int(np.argmax(np.abs(theirs / ours - 1)))
    if np.isclose(theirs[at], ours[at], rtol=1e-3):
        return "the scales are equal, so the zero-point or the rounding differs"
    return f"the file has the scale {theirs[at]:.6g}, the model {ours[at]:.6g}"
