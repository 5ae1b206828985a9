"""The random generators that a training run draws from: their seed, and their states in a checkpoint."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds the generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(loader: Any = None) -> dict[str, Any]:
    """The states of the generators of Python, NumPy, torch and, of a loader, its own: those of a DataLoader and its
    samplers, and what `state_dict` returns. Plain data, for `restore_random_state`."""
    numpy_state: Any = np.random.get_state(legacy=True)
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # else there is no state, and asking makes one
    own = getattr(loader, "state_dict", None)
    return {
        "python": random.getstate(),
        "numpy": [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
        "generators": [g.get_state() for g in _generators(loader)],
        "loader": own() if callable(own) else None,
    }


def restore_random_state(state: Mapping[str, Any], loader: Any = None) -> None:
    """Restores what `random_state` returned."""
    version, numbers, normal = state["python"]
    random.setstate((version, tuple(numbers), normal))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    for generator, own in zip(_generators(loader), state["generators"], strict=False):
        generator.set_state(own)
    if state["loader"] is not None:
        loader.load_state_dict(state["loader"])


@contextmanager
def same_randomness() -> Iterator[None]:
    """Restores the generators at the end of the block, so that what follows draws the same numbers."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def _generators(loader: Any) -> list[torch.Generator]:
    """The generators of a DataLoader and its samplers, each once."""
    sampler, batches = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    found = [getattr(x, "generator", None) for x in (loader, sampler, batches, getattr(batches, "sampler", None))]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
