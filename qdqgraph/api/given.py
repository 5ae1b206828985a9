"""What the calls are given: models, samples, rules and options, in the forms that are convenient to a caller."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from ..calibration import inputs
from ..errors import ModelError, RuleError
from ..model.files import read_model
from ..model.runtime import Feed
from ..repair.options import Options
from ..rulekit import catalog
from ..rulekit.rule import Rule

File: TypeAlias = str | os.PathLike[str]
Model: TypeAlias = onnx.ModelProto | File
Samples: TypeAlias = File | Sequence[Mapping[str, Any]]
"""Inputs to run a model on: an .npz file, or one mapping a sample, input name to array."""
Progress: TypeAlias = Callable[[str], None]
"""Called with one line before each step."""


def read(model: Model, folder: File | None) -> tuple[onnx.ModelProto, Path, Path]:
    """The model, the folder of its external data, and its path."""
    if isinstance(model, onnx.ModelProto):
        place = Path(folder or ".")
        return model, place, place / "model.onnx"
    path = Path(model)
    return read_model(path), Path(folder or path.parent), path


def samples(data: Samples | None, model: onnx.ModelProto) -> list[Feed] | None:
    """The inputs, one mapping a sample; None where none are given.

    Raises:
        ModelError: the file cannot be read, or does not fit the model's inputs.
    """
    if data is None:
        return None
    if isinstance(data, str | os.PathLike):
        return inputs.load(Path(data), model)
    return [dict(sample) for sample in data]


def rule_list(rules: Sequence[Rule] | None) -> Sequence[Rule]:
    """The rules as given, all that are installed where none are.

    Raises:
        RuleError: one of them is not a rule.
    """
    if rules is None:
        return catalog.load()
    for rule in rules:
        if not isinstance(rule, Rule):
            choice = "qdqgraph.rules(select=[…])"
            raise RuleError(f"rules holds {rule!r}, which is not a rule; choose by code, for example: {choice}")
    return rules


def option_values(options: Options | None, settings: dict[str, Any]) -> Options:
    """The options as given, or from settings by name.

    Raises:
        ModelError: both are given, or no option has that name.
    """
    if options is not None and settings:
        raise ModelError("give options, or settings by name, not both")
    unknown = [name for name in settings if name not in Options.__dataclass_fields__]
    if unknown:
        raise ModelError(f"no option {unknown[0]!r}; there are {', '.join(Options.__dataclass_fields__)}")
    return options or Options(**settings)
