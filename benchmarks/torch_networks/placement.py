"""TensorRT builds of a linked network's export, without `fix`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import nn

import qdqgraph
from benchmarks.placement_table import judged
from qdqgraph import torch as side

from . import architectures

COLUMNS = (
    *("network", "exporter", "boundary", "float of it", "graph outputs", "pools", "INT8 conv", "all activations"),
    *("groups", "added", "off", "unmapped", "left", "findings", "nodes", "link s"),
)


@dataclass(frozen=True)
class Exported:
    """A network as `link`, `calibrate` and `export` write it.

    Attributes:
        findings: codes of `check`'s findings in scales and placement.
        outputs: bytes of the graph outputs in float.
        seconds: processor time of `link`.
    """

    file: Path
    linked: side.Linked
    findings: tuple[str, ...]
    outputs: int
    nodes: int
    seconds: float

    def cells(self, figures: dict[str, Any]) -> list[str]:
        """The columns from "boundary" on."""
        if not figures["ok"]:
            built = ["no build", *["-"] * 5]
        else:
            built = [f"{figures['boundary_bytes']:,}", f"{figures['float_boundary']:,}", f"{self.outputs:,}"]
            built += [str(figures["pools"]), f"{figures['conv_int8']}/{figures['conv']}", f"{figures['act']:,}"]
        done = self.linked
        counts = [len(done.groups), len(done.added), len(done.disabled), len(done.unmapped)]
        left = sorted({f.code for f in done.left})
        return [
            *built,
            *map(str, counts),
            ", ".join(left) or "none",
            ", ".join(sorted(set(self.findings))) or "none",
            str(self.nodes),
            f"{self.seconds:.1f}",
        ]


def exported(
    model: nn.Module, example: Any, batches: Any, file: Path, *, dynamo: bool = False, modelopt: bool = False
) -> Exported:
    """Folds the BatchNorms of a float network, then quantizes, links, calibrates and exports it.

    Args:
        modelopt: quantize it by `modelopt.torch.quantization.quantize` instead of pytorch-quantization.
    """
    side.fold_norms(model, example)
    if modelopt:
        import modelopt.torch.quantization as mtq

        mtq.quantize(model, mtq.INT8_DEFAULT_CFG, lambda m: [m(x) for x in batches])
    else:
        side.quantize(model)
    start = time.process_time()
    linked = side.link(model, example, dynamo=dynamo)
    seconds = time.process_time() - start
    side.calibrate(model, batches, progress=False)
    written = side.export(model, example, file, dynamo=dynamo, opset=18 if dynamo else 17, force=True)
    findings = tuple(f.code for f in qdqgraph.check(written, qdqgraph.rules()) if f.code[3] in "12")
    return Exported(file, linked, findings, outputs(written), len(written.graph.node), seconds)


def outputs(model: onnx.ModelProto) -> int:
    """Bytes of the graph outputs in float."""
    shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output]
    return sum(4 * math.prod(shape) for shape in shapes)


def row(name: str, dynamo: bool, folder: Path, judge: Path, *, modelopt: bool = False) -> str:
    """One line of the table."""
    exporter = "dynamo" if dynamo else "TorchScript"
    edge = architectures.size(name)
    batches = [architectures.image(edge, seed) for seed in range(3)]
    file = folder / f"{name.replace(':', '_')}.{exporter}.onnx"
    try:
        done = exported(architectures.network(name), batches[0], batches, file, dynamo=dynamo, modelopt=modelopt)
    except qdqgraph.QdqgraphError as error:
        return f"| {name} | {exporter} | FAILED: {str(error).splitlines()[0]} |"
    return "| " + " | ".join([name, exporter, *done.cells(judged(judge, [file])[0])]) + " |"
