"""Converts the arguments of the API functions: models, samples, rules and options."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from ..calibration.data.samples import Samples
from ..calibration.data.sources import Data, samples_of
from ..errors import ModelError, RuleError
from ..model.files import read_model
from ..repair.options import Options
from ..rulekit import catalog
from ..rulekit.rule import Rule

File: TypeAlias = str | os.PathLike[str]
Model: TypeAlias = onnx.ModelProto | File
Progress: TypeAlias = Callable[[str], None]
"""Called with one line before each step."""


def read(model: Model, folder: File | None) -> tuple[onnx.ModelProto, Path, Path]:
    """Returns the model, the folder of its external data, and its path.

    Raises:
        ModelError: the file cannot be read, or is not an ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        place = Path(folder or ".")
        return model, place, place / "model.onnx"
    path = Path(model)
    return read_model(path), Path(folder or path.parent), path


def path(file: File | None) -> Path | None:
    """Returns a file as a path; None if there is none."""
    return None if file is None else Path(file)


def samples(
    data: Data | None, model: onnx.ModelProto, preprocess: str | None = None, limit: int | None = None
) -> Samples | None:
    """Returns the samples; None if there are no data.

    Raises:
        ModelError: as `samples_of`; or `preprocess` or `limit` has no effect, because there are no data.
    """
    if data is None:
        if preprocess is not None or limit is not None:
            raise ModelError("preprocess and samples have an effect only with data: give --data as well")
        return None
    return samples_of(data, model, preprocess=preprocess, limit=limit)


def rule_list(rules: Sequence[Rule] | None) -> Sequence[Rule]:
    """Returns the given rules, or the built-in and installed rules if None.

    Raises:
        RuleError: one of them is not a rule.
    """
    if rules is None:
        return catalog.load()
    for rule in rules:
        if not isinstance(rule, Rule):
            choice = "qdqgraph.rules(select=[…])"
            raise RuleError(f"rules contains {rule!r}, which is not a rule; to choose by code, use {choice}")
    return rules


def option_values(options: Options | None, settings: dict[str, Any]) -> Options:
    """Returns the given options, or options from settings by name.

    Raises:
        ModelError: both are given, or an option name is unknown.
    """
    if options is not None and settings:
        raise ModelError("give either options or settings by name, not both")
    unknown = [name for name in settings if name not in Options.__dataclass_fields__]
    if unknown:
        raise ModelError(f"unknown option {unknown[0]!r}; known options: {', '.join(Options.__dataclass_fields__)}")
    return options or Options(**settings)
