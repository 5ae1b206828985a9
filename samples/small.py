"""A small network, quantized by onnxruntime with its defaults, to try qdqgraph on without PyTorch.

`python samples/small.py` writes float.onnx, model.onnx (what quantize_static makes of it) and inputs.npz (16 random
samples of the network's input).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static

SHAPE = (1, 3, 32, 32)
WIDTH = 8
"""Channels of every convolution."""
SAMPLES = 16
NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[1,3,32,32] images) => (float[1,10] scores)
{
    stem = Conv <pads = [1, 1, 1, 1]> (images, w_stem, b)
    x = Relu (stem)
    left = Conv <pads = [1, 1, 1, 1]> (x, w_left, b)
    middle = Relu (left)
    right = Conv <pads = [1, 1, 1, 1]> (middle, w_right, b)
    sum = Add (right, x)
    block = Relu (sum)
    pool = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (block)
    down = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w_down, b)
    side = Relu (down)
    both = Concat <axis = 1> (pool, side)
    head = Conv (both, w_head, b)
    mean = GlobalAveragePool (head)
    row = Flatten (mean)
    scores = Gemm (row, w_last, b_last)
}
"""
WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "w_stem": (WIDTH, 3, 3, 3),
    "w_left": (WIDTH, WIDTH, 3, 3),
    "w_right": (WIDTH, WIDTH, 3, 3),
    "w_down": (WIDTH, WIDTH, 3, 3),
    "w_head": (WIDTH, 2 * WIDTH, 1, 1),
    "w_last": (WIDTH, 10),
    "b": (WIDTH,),
    "b_last": (10,),
}


def network() -> onnx.ModelProto:
    """Returns the float network: a residual block, a branch, a Concat, a pool; seeded random weights."""
    model = onnx.parser.parse_model(NETWORK)
    for node in model.graph.node:
        node.name = f"/{node.output[0]}/{node.op_type}"
    generator = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        spread = 1 / np.sqrt(np.prod(shape[1:]))
        values = generator.normal(0, spread, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


class Samples(CalibrationDataReader):
    """Hands quantize_static one sample after the other."""

    def __init__(self, images: np.ndarray) -> None:
        self.left: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Returns the next sample; None at the end."""
        image = next(self.left, None)
        return None if image is None else {"images": image}


def write(folder: Path) -> None:
    """Writes the three files into a folder."""
    images = np.random.default_rng(1).normal(0, 1, (SAMPLES, *SHAPE)).astype(np.float32)
    onnx.save(network(), folder / "float.onnx")
    np.savez(folder / "inputs.npz", images=images[:, 0])
    quantize_static(str(folder / "float.onnx"), str(folder / "model.onnx"), Samples(images))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help = "default: the current folder"
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="FOLDER", help=help)
    folder = parser.parse_args().output
    write(folder)
    print(*(folder / name for name in ("float.onnx", "model.onnx", "inputs.npz")), sep="\n")
