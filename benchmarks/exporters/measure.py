"""Measures a cell of the matrix: whether TensorRT-RTX builds it before and after, INT8 convolutions, and cost.

Needs qdqgraph with its extras ort and tensorrt, and scikit-image.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import qdqgraph
from qdqgraph.calibration.agreement import agreement
from qdqgraph.engines.builders import builder
from qdqgraph.engines.builders.how import Build
from qdqgraph.errors import EngineError
from qdqgraph.model import runtime
from qdqgraph.model.writing.models import Source, placed, write_model
from qdqgraph.rulekit import catalog
from qdqgraph.rulekit.finding import Safety

from .networks import NETWORKS, original, photos, prepared

ON_REQUEST = ("QDQ403",)
"""Rules whose repairs change what the graph computes, requested only if `fix` refuses the file otherwise."""
APART = {"__main__.py", "authoring", "cli", "torch"}
"""Parts of the package that `qdqgraph.fix` and the engines do not import, so no cell depends on them."""
Outputs = list[list[Any]]


@dataclass(frozen=True)
class Built:
    """Result of a TensorRT-RTX build: all convolutions, those that read INT8, or the reason of the refusal."""

    convolutions: int = 0
    int8: int = 0
    refused: str = ""

    @property
    def complete(self) -> bool:
        """Whether the file builds with every convolution in INT8."""
        return not self.refused and self.int8 == self.convolutions


@dataclass(frozen=True)
class Cell:
    """One file, before and after `qdqgraph.fix`.

    Attributes:
        digest: SHA-256 of the exported file; "" if the exporter wrote none.
        code: digest of the measuring code, see `code`; "" if unknown.
        asked: codes of rules whose repairs had to be requested, because `fix` refused the file otherwise.
        bits: the largest loss of resolution, in bits, of any repair.
        moved: number of lossy repairs per code that change no scale and so lose no bits: they add or move a rounding,
            and `sqnr` contains their cost.
        sqnr: SQNR of the worst output over all inputs in dB, fixed file against exported file.
        exporter, fixed: the same against the float network; nan if there is none.
        exact: whether the bit-exact repairs, applied alone, left every output bit-identical.
        unrun: why ONNX Runtime cannot run the exported file, so that there is no SQNR; "" if it can.
        failed: why there is no file, no fixed file, or why it does not build; "" if nothing failed.
        seconds: processor time of `fix`.
    """

    file: str
    digest: str = ""
    before: Built = field(default_factory=Built)
    after: Built = field(default_factory=Built)
    asked: tuple[str, ...] = ()
    bits: float = 0.0
    moved: dict[str, int] = field(default_factory=dict)
    sqnr: float = math.nan
    exporter: float = math.nan
    fixed: float = math.nan
    exact: bool = False
    unrun: str = ""
    failed: str = ""
    seconds: float = 0.0
    code: str = ""


@functools.cache
def code() -> str:
    """SHA-256 of the rules, of the measuring code, and of the package except for `APART`."""
    package, here = Path(qdqgraph.__file__).parent, Path(__file__).parent
    files = [here / "measure.py", here / "networks.py"]
    own = sorted(p for p in package.iterdir() if p.name not in APART)
    for root in (*own, catalog.builtin_folder(), *catalog.packs()):
        files += [p for p in sorted((root, *root.rglob("*"))) if p.is_file() and p.suffix != ".pyc"]
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.name} {digest(path)};".encode())
    return found.hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of the file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def built(path: Path) -> Built:
    """Builds the file with TensorRT-RTX in a separate process."""
    try:
        layers = builder.built(path, "tensorrt-rtx", Build()).layers
    except EngineError as error:
        return Built(refused=str(error).splitlines()[0][:300])
    convolutions = [layer for layer in layers if layer.kind == "correlation"]
    return Built(len(convolutions), sum(any(t.precision == "INT8" for t in c.inputs) for c in convolutions))


def outputs(model: onnx.ModelProto, network: str, wheels: Path, folder: Path) -> Outputs:
    """The model's outputs for the measurement inputs, from ONNX Runtime with graph optimizations off.

    Outputs are in the float network's order if the exporter kept their names, else in the file's: ESP-PPQ reorders
    them.
    """
    entry, names = model.graph.input[0].name, [o.name for o in model.graph.output]
    real = [o.name for o in floating(network, wheels).graph.output] if NETWORKS[network].path else names
    order = [names.index(name) for name in real] if set(names) == set(real) else range(len(names))
    found = runtime.run(model, [{entry: image} for image in photos(network, wheels)[1]], folder)
    return [[sample[index] for index in order] for sample in found]


@functools.cache
def floating(network: str, wheels: Path) -> onnx.ModelProto:
    """The float network as the exporters read it."""
    return prepared(network, original(network, wheels))


@functools.cache
def answers(network: str, wheels: Path) -> Outputs | None:
    """The float network's outputs; None if the exporter supplies the network."""
    return outputs(floating(network, wheels), network, wheels, wheels) if NETWORKS[network].path else None


def worst(reference: Outputs | None, found: Outputs) -> float:
    """SQNR in dB of the worst output, each over all inputs; FP16 is widened to FP32."""
    if reference is None:
        return math.nan
    each = zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True)
    return min(agreement(_wide(r), _wide(f)).sqnr for r, f in each)


def _wide(arrays: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(a, np.float32) for a in arrays]


def identical(reference: Outputs, found: Outputs) -> bool:
    """Whether every output is bit-identical."""
    each = zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True)
    return all(agreement(r, f).identical for r, f in each)


def fixed(path: Path) -> tuple[qdqgraph.Result | None, tuple[str, ...], str]:
    """The repair, the codes that had to be requested, and why there is no repair."""
    reason = ""
    for also in ((), ON_REQUEST):
        try:
            return qdqgraph.fix(path, also=also), also, ""
        except qdqgraph.QdqgraphError as error:
            reason = " ".join(str(error).split())[:400]
    return None, (), reason


def losses(result: qdqgraph.Result) -> tuple[float, dict[str, int]]:
    """The most bits of resolution that a repair loses; and lossy repairs that change no scale, counted by code."""
    lossy = [f for f in result.applied if f.safety is Safety.LOSSY and f.tie is None]
    lost = [f.bits_lost for f in lossy if f.bits_lost is not None] + [change.lost for change in result.changes]
    moved = Counter(f.code for f in lossy if f.bits_lost is None)
    return max(lost, default=0.0), dict(sorted(moved.items()))


def cell(path: Path, wheels: Path, folder: Path) -> Cell:
    """Measures the file and writes the repaired one to `folder`."""
    network, own = path.name.split(".")[0], digest(path)
    before, start = built(path), time.process_time()
    result, asked, reason = fixed(path)
    seconds = time.process_time() - start
    if result is None:
        return Cell(path.name, own, before, Built(refused=reason), failed=reason, seconds=seconds, code=code())
    out = folder / path.name
    source = Source(path, path.parent, onnx.load(path, load_external_data=False))
    write_model(placed(result.model, out, source, force=True), out, source, force=True)
    after = built(out)
    measured = Cell(
        path.name,
        own,
        before,
        after,
        asked,
        *losses(result),
        failed=after.refused,
        seconds=seconds,
        code=code(),
    )
    try:
        ours = outputs(onnx.load(path), network, wheels, folder)
    except qdqgraph.QdqgraphError as error:
        return replace(measured, unrun=" ".join(str(error).split())[:400])
    theirs, bare = (outputs(m, network, wheels, folder) for m in (result.model, result.exact))
    real = answers(network, wheels)
    return replace(
        measured,
        sqnr=worst(ours, theirs),
        exporter=worst(real, ours),
        fixed=worst(real, theirs),
        exact=identical(ours, bare),
    )
