"""Where a network loses accuracy: SQNR of every tensor that a float network and its quantized forms have in common.

    python benchmarks/tensor_table.py FLOAT.onnx INPUTS.npz QUANTIZED.onnx ...

One line per tensor, in the order of the float network: name, then the SQNR in dB of each file, all samples pooled.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from qdqgraph.calibration.agreement import agreement
from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.model import runtime, shapes

Values = dict[str, list[np.ndarray]]
"""The values of each tensor for each sample, by tensor name."""


def values(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[runtime.Feed], folder: Path) -> Values:
    """The values that the model computes for these tensors."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    found = runtime.run(shown, feeds, folder)
    return {name: [np.asarray(sample[i]) for sample in found] for i, name in enumerate(names)}


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    source, data, *paths = map(Path, arguments)
    reference = onnx.load(source)
    models = [onnx.load(path) for path in paths]
    feeds = list(samples_of(data, reference))
    made = [{name for node in model.graph.node for name in node.output} for model in models]
    real = {name: kind for name, (kind, _) in shapes.infer(reference).items()}
    nodes = [n.output[0] for n in reference.graph.node if n.op_type != "Constant"]
    names = [n for n in nodes if real.get(n) == onnx.TensorProto.FLOAT and all(n in m for m in made)]
    wanted = values(reference, names, feeds, source.parent)
    found = [values(m, names, feeds, p.parent) for m, p in zip(models, paths, strict=True)]
    for name in names:
        row = [f"{agreement(wanted[name], other[name]).sqnr:7.2f}" for other in found]
        sys.stdout.write(f"{name:40} {' '.join(row)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
