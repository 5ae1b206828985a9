"""The score of a task, by a function of the user."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx

from ..errors import ModelError
from ..model import runtime

Run: TypeAlias = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""A network as a function: one array for each input by name → one array for each output by name."""
Evaluate: TypeAlias = Callable[[Run], float]
"""Scores a network on labelled data of its own; higher is better."""


def run_of(model: onnx.ModelProto, folder: Path, provider: str = "cpu") -> Run:
    """A model in ONNX Runtime as a function.

    Args:
        model: the model.
        folder: where its external data lie.
        provider: "cpu" or "cuda".

    Raises:
        ModelError: onnxruntime cannot load the model; when the function is called: it cannot run it.
    """
    session = runtime.Session(model, folder, runtime.provider(provider)[0])
    names = [o.name for o in model.graph.output]

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, map(np.asarray, session.run([feeds])[0]), strict=True))

    return run


def score_of(evaluate: Evaluate, run: Run) -> float:
    """The score of a network.

    Raises:
        ModelError: the function returns no finite number.
    """
    found = evaluate(run)
    try:
        score = float(found)
    except (TypeError, ValueError) as error:
        what = f"a {type(found).__name__}"
        raise ModelError(f"the function that scores returns {what}: return one number, higher is better") from error
    if not math.isfinite(score):
        raise ModelError(f"the function that scores returns {score}: return a finite number, higher is better")
    return score
