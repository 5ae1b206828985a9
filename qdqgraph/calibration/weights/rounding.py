"""`rounded`: each weight rounded up or down, so that the layer's output has the least error.

The error of an output is quadratic in the errors of its weights: Σ (Δw · x)² = Δw H Δwᵀ with H = Σ x xᵀ over the inputs
of the layer. Which of its two neighbours each weight takes is the problem that AdaRound states (Nagel et al. 2020,
https://arxiv.org/abs/2004.10568, section 3) and then relaxes for gradient descent. Here coordinate descent solves it on
H directly: a weight takes the neighbour that fits best to the errors of all others, in turn. It starts from a
sequential rounding that lets each weight make up for the errors of those before, as GPTQ does (Frantar et al. 2022,
https://arxiv.org/abs/2210.17323).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph.amax import INT8_BOUND

BLOCK = 64
"""Weights whose changes are applied to all others together, as one matrix product."""
SWEEPS = 4
"""The limit of rounds over all weights; later ones change little."""
DAMPING = 0.01
"""Added to the diagonal of H, relative to its mean, as GPTQ does: few samples leave directions of the input unseen."""

Matrix = NDArray[np.float32]


def rounded(target: NDArray[np.float64], gram: Matrix) -> Matrix:
    """The integers that the descent finds for each output, or the nearest ones where these have a smaller error.

    The error never exceeds that of the nearest integers, on the same inputs and with `DAMPING`.

    Args:
        target: [o, k] the weights of o outputs, in steps of their scale.
        gram: [k, k] Σ x xᵀ over the inputs of the layer; symmetric.

    Returns:
        [o, k] whole numbers from -127 to 127: of each weight within that range the next smaller or larger one.
    """
    mean = float(np.trace(gram, dtype=np.float64)) / max(1, len(gram))
    if not mean > 0:
        return _Problem.of(target, gram).nearest
    problem = _Problem.of(target, gram + np.diag(np.full(len(gram), DAMPING * mean, np.float32)))
    found = problem.nearest, problem.descended(problem.sequential())
    errors = [output_error(each, target, problem.gram) for each in found]
    return np.where((errors[1] < errors[0])[:, None], found[1], found[0])


def output_error(
    weights: NDArray[np.floating], others: NDArray[np.floating], gram: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The squared error of each output, Σ (Δw · x)², summed over the inputs.

    Args:
        weights, others: [..., o, k] two versions of the weights.
        gram: [..., k, k] Σ x xᵀ over the inputs.

    Returns:
        [..., o] float64; rounding may leave tiny negative numbers, which are 0 here.
    """
    difference = (np.asarray(weights, np.float64) - others).astype(np.float32)
    return np.maximum(np.einsum("...ok,...ok->...o", difference @ gram, difference, dtype=np.float64), 0)


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the integers shall be near to, the neighbours they may take, and what errors cost."""

    target: NDArray[np.float64]
    low: Matrix
    high: Matrix
    gram: Matrix

    @classmethod
    def of(cls, target: NDArray[np.float64], gram: Matrix) -> _Problem:
        low, high = (np.clip(f(target), -INT8_BOUND, INT8_BOUND).astype(np.float32) for f in (np.floor, np.ceil))
        return cls(target, low, high, gram)

    @property
    def nearest(self) -> Matrix:
        return np.clip(np.rint(self.target), -INT8_BOUND, INT8_BOUND).astype(np.float32)

    def sequential(self) -> Matrix:
        """The last weight takes the nearest integer; each one before it the nearest to what makes up for the errors of
        all after it. With gram = Rᵀ R, that value is its target + Σ R_ij / R_ii · (target_j - integer_j)."""
        root = np.linalg.cholesky(self.gram).T
        middle = (self.low + self.high) / 2
        size = len(root)
        found, errors = np.empty_like(self.low), np.zeros_like(self.low)
        for stop in range(size, 0, -BLOCK):
            start = max(0, stop - BLOCK)
            carried = errors[:, stop:] @ root[start:stop, stop:].T
            for place in range(stop - 1, start - 1, -1):
                inside = errors[:, place + 1 : stop] @ root[place, place + 1 : stop]
                wanted = self.target[:, place] + (carried[:, place - start] + inside) / root[place, place]
                found[:, place] = np.where(wanted > middle[:, place], self.high[:, place], self.low[:, place])
                errors[:, place] = self.target[:, place] - found[:, place]
        return found

    def descended(self, start: Matrix) -> Matrix:
        """Coordinate descent from these integers."""
        found = start.copy()
        slope = (found - self.target).astype(np.float32) @ self.gram
        for _ in range(SWEEPS):
            changed = False
            for first in range(0, len(self.gram), BLOCK):
                part = slice(first, min(first + BLOCK, len(self.gram)))
                moved = self._block(found, slope[:, part].copy(), part)
                if moved.any():
                    slope += moved @ self.gram[part]
                    changed = True
            if not changed:
                break
        return found

    def _block(self, found: Matrix, slope: Matrix, part: slice) -> Matrix:
        """Rounds the weights of one block, in place; returns by how much each of them moved."""
        inner, moved = self.gram[part, part], np.zeros_like(slope)
        low, high = self.low[:, part], self.high[:, part]
        here = found[:, part]
        for index in range(len(inner)):
            step = np.where(here[:, index] == low[:, index], high[:, index], low[:, index]) - here[:, index]
            gain = step * (2 * slope[:, index] + step * inner[index, index])
            step = np.where(gain < 0, step, 0)
            moved[:, index] = step
            here[:, index] += step
            slope += step[:, None] * inner[index]
        return moved
