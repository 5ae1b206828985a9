"""Samples of a model's inputs."""

from __future__ import annotations

import numpy as np
import onnx


def uniform(
    model: onnx.ModelProto, samples: int = 4, seed: int = 0, largest: float = 1.0
) -> list[dict[str, np.ndarray]]:
    """Seeded uniform values between -largest and largest."""
    random = np.random.default_rng(seed)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return [
        {n: (random.uniform(-largest, largest, s)).astype(np.float32) for n, s in shapes.items()}
        for _ in range(samples)
    ]
