"""`Inputs`: how the inputs of layers with known weights vary together, Σ x xᵀ over samples.

The error that a change of the weights makes at the output is quadratic in the change, with this matrix. It depends on
the inputs alone, so one pass over the samples judges any number of changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...graph.graph import Graph
from ...graph.quantization import Quantization
from ...log import Progress, log_step
from ...proposals.weights import pair_readers
from ..data.samples import Samples
from ..layers.twin import activation_pair
from ..statistics.floating import FloatModel
from ..statistics.measure import observe
from .known import Known
from .products import Product

SHARE = 0.4
"""The share of the memory limit that the matrices of one pass may take; the network and the search need the rest."""
HALVES = 2
"""Samples are added up in turn, so that one half can judge what the other one suggests."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What one pair of weights is multiplied with.

    Attributes:
        known: the weights.
        products: the layers that read them, all of one layout.
        grams: [2, groups, depth, depth] Σ x xᵀ over the even and over the odd samples; of many rows a random part.
    """

    known: Known
    products: tuple[Product, ...]
    grams: NDArray[np.float32]

    @property
    def columns(self) -> NDArray[np.float64]:
        """The known weights as [groups, outputs of a group, depth]."""
        return np.asarray(self.products[0].columns(self.known.reals), np.float64)

    @property
    def scales(self) -> NDArray[np.float64]:
        """The scale of each column, [groups, outputs of a group, 1], or of all, [1, 1, 1]."""
        own = self.known.quantization
        spread = np.broadcast_to(own.along(own.scale, len(self.known.shape)), self.known.shape)
        return np.asarray(self.products[0].columns(spread), np.float64)


def inputs_of(
    graph: Graph,
    network: FloatModel,
    weights: Sequence[Known],
    data: Samples,
    *,
    rounds: bool,
    memory: int,
    provider: str = "cpu",
    progress: Progress = log_step,
) -> Iterator[Inputs]:
    """The inputs of the layers that read known weights, from the float network's values, in as many passes over the
    samples as the memory needs. Weights whose layers are no `Product`, or too large for the memory, are left out.

    Args:
        graph: the Q/DQ graph.
        network: its float network.
        weights: pairs of weights.
        data: the samples.
        rounds: the values are rounded by the pair through which the layer reads them, as in the Q/DQ graph.
        memory: the limit for the peak resident memory of the process, in bytes.
        provider: "cpu" or "cuda".
        progress: called with one line before each sample.

    Raises:
        ModelError: the network cannot run, a sample does not fit it, or onnxruntime is missing.
    """
    limit = int(memory * SHARE)
    pending = [(known, read) for known in weights if (read := _products(graph, known)) and _size(read[0]) <= limit]
    while pending:
        taken = 1
        while taken < len(pending) and sum(_size(read[0]) for _, read in pending[: taken + 1]) <= limit:
            taken += 1
        found = [Inputs(known, read, _zeros(read[0])) for known, read in pending[:taken]]
        pending = pending[taken:]
        observers: dict[str, _Rows] = {}
        sources = {p.data: _source(graph, network, p.data) for each in found for p in each.products}
        for each in found:
            for product in each.products:
                tensor, own = sources[product.data]
                rows = observers.setdefault(tensor, _Rows())
                rows.taken.append((product, own if rounds else None, each.grams))
        observe(network, data, observers, memory=memory, provider=provider, progress=progress, what="inputs of layers,")
        observers.clear()
        while found:
            yield found.pop(0)


@dataclass(eq=False)
class _Rows:
    """Adds the rows of a tensor's readers to their matrices."""

    taken: list[tuple[Product, Quantization | None, NDArray[np.float32]]] = field(default_factory=list)
    count: int = 0

    @property
    def nbytes(self) -> int:
        return sum(grams.nbytes for *_, grams in self.taken)

    def add(self, array: np.ndarray) -> None:
        rounded: dict[int, np.ndarray] = {}
        for product, quantization, grams in self.taken:
            if id(quantization) not in rounded:
                values = array if quantization is None else quantization.dequantize(quantization.quantize(array))
                rounded[id(quantization)] = values.astype(np.float32, copy=False)
            rows = product.rows(rounded[id(quantization)], self.count)
            if np.isfinite(rows).all():
                grams[self.count % HALVES] += rows.swapaxes(1, 2) @ rows
        self.count += 1


def _products(graph: Graph, known: Known) -> tuple[Product, ...]:
    """The layers that read the weights; none if one of them is no product, or they read them in several layouts."""
    found = [Product.of(r.node, r.index, known.shape) for r in pair_readers(graph, known.pair)]
    products = tuple(product for product in found if product is not None)
    alike = len(products) == len(found) and len({product.layout for product in products}) == 1
    return products if alike and not any(graph.is_constant(p.data) for p in products) else ()


def _source(graph: Graph, network: FloatModel, tensor: str) -> tuple[str, Quantization | None]:
    """The tensor of the float network that a layer reads, and how the Q/DQ graph rounds it."""
    pair = activation_pair(graph, tensor)
    if pair is None:
        return network.tensor(tensor), None
    return network.tensor(pair.tensor), Quantization.of(pair)


def _size(product: Product) -> int:
    return HALVES * product.groups * product.depth**2 * 4


def _zeros(product: Product) -> NDArray[np.float32]:
    return np.zeros((HALVES, product.groups, product.depth, product.depth), np.float32)
