"""Bias correction: takes the mean error of each output channel off a layer's bias.

Rounding weights and activations shifts the mean of a layer's output, above all in depthwise convolutions; the bias can
take the shift back. Source: M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
ICCV 2019, https://arxiv.org/abs/1906.04721, section 4.2, here with samples instead of BatchNorm's statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from ...errors import CalibrationError
from ...graph.graph import Graph, input_name, key
from ...model.protos import is_standard
from ...operators import WEIGHTED
from ..statistics.floating import FloatModel
from .errors import Shift, shifts
from .twin import layers, twin

LEAST = 2
"""Samples: one part to compute the shift from, another to judge it."""


@dataclass(frozen=True, eq=False)
class Correction:
    """A bias that is better on samples it was not computed from.

    Attributes:
        layer: the key of the layer.
        bias: [C] the corrected bias, in the type of the layer.
        before, after: the mean squared error of the layer alone on the held-back samples.
    """

    layer: str
    bias: NDArray[np.float32]
    before: float
    after: float


def corrections(
    graph: Graph, network: FloatModel, feeds: Iterable[Mapping[str, np.ndarray]], provider: str = "cpu"
) -> tuple[Correction, ...]:
    """The corrected biases of convolutions and Gemms whose error falls on held-back samples, in file order.

    Every second sample gives the shift, the others judge it. A layer without a bias gets one.

    Args:
        graph: the Q/DQ graph.
        network: its float network.
        feeds: the samples, two or more.
        provider: "cpu" or "cuda".

    Raises:
        CalibrationError: there are too few samples.
        ModelError: onnxruntime is missing, or cannot run the network.
    """
    chosen = {key(n): n for n in layers(graph) if _has_bias(graph, n)}
    if not chosen:
        return ()
    axes = {name: -1 if node.op == "Gemm" else 1 for name, node in chosen.items()}
    both = twin(graph, network, tuple(chosen.values()), channels=axes)
    found = shifts(both, feeds, network.folder, provider)
    if len(found) < LEAST:
        raise CalibrationError(f"bias correction needs {LEAST} samples or more; the data have {len(found)}")
    return tuple(c for name in found[0] if (c := _correction(graph, chosen[name], found)) is not None)


def _correction(graph: Graph, node: gs.Node, found: list[dict[str, Shift]]) -> Correction | None:
    mine = [shift[key(node)] for shift in found]
    given, held = mine[::2], mine[1::2]
    shift = np.mean([s.mean for s in given], axis=0)
    own = _bias(graph, node, len(shift))
    if own is None or not np.isfinite(shift).all():
        return None
    corrected = (own.astype(np.float64) - shift).astype(own.dtype)
    moved = own.astype(np.float64) - corrected
    # mean((d - m)²) = mean(d²) - 2·m·mean(d) + m², for each channel
    before = np.mean([s.square for s in held], axis=0)
    after = before - 2 * moved * np.mean([s.mean for s in held], axis=0) + moved**2
    better = after < before
    if not better.any():
        return None
    kept = np.where(better, corrected, own)
    return Correction(key(node), kept, float(before.mean()), float(np.where(better, after, before).mean()))


def _has_bias(graph: Graph, node: gs.Node) -> bool:
    """Whether a layer's bias can be replaced: it is constant, or absent where the operator accepts one."""
    if node.op not in WEIGHTED - {"MatMul"} or not is_standard(node):
        return False
    if node.op == "Gemm" and node.attrs.get("beta", 1.0) != 1.0:
        return False
    name = input_name(node, 2)
    return not name or graph.array(name) is not None


def _bias(graph: Graph, node: gs.Node, channels: int) -> np.ndarray | None:
    """The bias of a layer, [C]; zeros if it has none; None if it has another shape, as that of a Gemm may."""
    name = input_name(node, 2)
    array = graph.array(name) if name else np.zeros(channels, np.float32)
    return array if array is not None and array.shape == (channels,) and array.dtype.kind == "f" else None
