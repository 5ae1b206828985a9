"""How far the forecast's kernels agree with those that TensorRT-RTX builds on a CPU: a figure for each network.

    python -m benchmarks.rtx_agreement MODEL.onnx ...
    python -m benchmarks.rtx_agreement OUT/*/{fixed,modelopt,fp16}.onnx

OUT is the folder of the kit (`benchmarks.gpu`): its ten networks. Engines that the kit built are not built again.

The figure is the share of joints on which both agree. A joint is a node and a node that reads its result, seen through
pairs and views, with a Q as a node: both either run in one kernel or in two. Two kinds of joints do not count. A joint
that leaves the kernel of a convolution or matrix product in the forecast: the CPU build runs the nodes downstream of a
convolution in another kernel, together with what follows, so it does not show where the fused kernel of a GPU ends. And
a joint with a node that the build's layer list does not name, because TensorRT removed it. The share of all joints,
those that leave such a kernel included, is printed too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from qdqgraph.engines.builders.builder import built
from qdqgraph.engines.builders.how import Build
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.layers import Engine
from qdqgraph.engines.read.saved import open_engine
from qdqgraph.engines.share import WEIGHTED_KERNELS
from qdqgraph.errors import EngineError
from qdqgraph.graph.graph import Graph, key, label
from qdqgraph.operators import SHAPES, VIEWS, WEIGHTED
from qdqgraph.targets.target import Target

UNSEEN = VIEWS | SHAPES | {"DequantizeLinear", "Constant"}
"""Operators that are no end of a joint."""


@dataclass(frozen=True)
class Agreement:
    """The comparison of a forecast with a build.

    Attributes:
        joints: joints that both engines contain, without those that leave the kernel of a weighted node.
        agreed: joints that are inside one kernel in both, or in neither.
        leaving: joints that leave the kernel of a weighted node in the forecast.
        leaving_agreed: those of them on which both agree.
        apart: (node, reader) of the others that the forecast divides.
        together: (node, reader) of the others that the forecast joins.
        kernels: number of kernels of forecast and build.
    """

    joints: int
    agreed: int
    leaving: int
    leaving_agreed: int
    apart: tuple[tuple[str, str], ...]
    together: tuple[tuple[str, str], ...]
    kernels: tuple[int, int]

    @property
    def share(self) -> float:
        """The share of joints on which both agree; 1 without a joint."""
        return self.agreed / self.joints if self.joints else 1.0

    @property
    def whole(self) -> float:
        """The share of all joints, those that leave the kernel of a weighted node included; 1 without a joint."""
        joints = self.joints + self.leaving
        return (self.agreed + self.leaving_agreed) / joints if joints else 1.0


def agreement(graph: Graph, predicted: Engine, real: Engine) -> Agreement:
    """Returns how far the kernels of a forecast agree with those of a TensorRT-RTX build of the same graph."""
    mine, theirs = _places(predicted), _places(real)
    weighted = {i for i, layer in enumerate(predicted.layers) if layer.kind in WEIGHTED_KERNELS}
    found: dict[tuple[str, str], tuple[bool, bool]] = {}
    leaving: dict[tuple[str, str], tuple[bool, bool]] = {}
    for node in graph.nodes():
        for source in _sources(graph, node):
            joint = label(source), label(node)
            here, there = (mine.get(name, set()) for name in joint)
            first, last = (theirs.get(_rtx_name(n), set()) for n in (source, node))
            if first and last and here and there:
                inside = bool(here & there), bool(first & last)
                (leaving if here <= weighted and not inside[0] else found)[joint] = inside
    return Agreement(
        len(found),
        sum(a == b for a, b in found.values()),
        len(leaving),
        sum(a == b for a, b in leaving.values()),
        tuple(joint for joint, (a, b) in found.items() if b and not a),
        tuple(joint for joint, (a, b) in found.items() if a and not b),
        (len(predicted.working), len(real.working)),
    )


def _places(engine: Engine) -> dict[str, set[int]]:
    """The kernels of each node, by index; a Q is in the kernel that absorbs it."""
    found: dict[str, set[int]] = {}
    for index, layer in enumerate(engine.layers):
        for name in (*layer.nodes, *layer.quantizers):
            found.setdefault(name, set()).add(index)
    return found


def _rtx_name(node: gs.Node) -> str:
    """What TensorRT-RTX calls a node."""
    return str(node.name) or f"node_of_{key(node)}"


def _sources(graph: Graph, node: gs.Node) -> list[gs.Node]:
    """The nodes from which a node reads data, seen through pairs and views, without weighted ones."""
    if node.op in UNSEEN or graph.is_constant(key(node)):
        return []
    found = []
    for tensor in node.inputs:
        source = graph.producer(tensor.name) if tensor.name and not graph.is_constant(tensor.name) else None
        while source is not None and source.op in VIEWS | {"DequantizeLinear"}:
            source = graph.producer(source.inputs[0].name)
        if source is not None and source.op not in UNSEEN | WEIGHTED:
            found.append(source)
    return found


def measured(path: Path) -> Agreement:
    """The agreement for a file; its engine is that of the kit where there is one.

    Raises:
        EngineError: TensorRT-RTX is missing or refuses the file.
    """
    graph = Graph.opened(onnx.load(path), path.parent, target=Target.named("trt-rtx"))
    kept = path.with_suffix(".engine") / "engine.json"
    real = open_engine(kept) if kept.is_file() else built(path, "tensorrt-rtx", Build())
    return agreement(graph, forecast(graph, path.name), real)


def _title(path: Path) -> str:
    """The file's name; with its folder, which is the network's name, in the kit."""
    return f"{path.parent.name}, {path.stem}" if path.with_suffix(".engine").is_dir() else path.stem


def main(arguments: Sequence[str]) -> None:
    """Prints a Markdown table."""
    print("| network | joints | agreed | of all joints | kernels forecast | built |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in map(Path, arguments):
        try:
            found = measured(path)
        except EngineError as error:
            print(f"| {_title(path)} | - | {str(error)[:80]} | - | - | - |")
            continue
        shares = f"{found.share:.1%} | {found.whole:.1%}"
        print(f"| {_title(path)} | {found.joints} | {shares} | {found.kernels[0]} | {found.kernels[1]} |")


if __name__ == "__main__":
    main(sys.argv[1:])
