"""Converts the arguments of the API functions: models, samples, rules and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from ..calibration.data.samples import Samples
from ..calibration.data.sources import Data, samples_of
from ..errors import GraphError, ModelError, RuleError
from ..log import Progress, log_step
from ..model.given import File, Model, read
from ..repair.options import Options
from ..rulekit import catalog
from ..rulekit.rule import Rule

Memory: TypeAlias = int | str
"""A size in bytes, as a number or as a text such as "2GiB"."""


def path(file: File | None) -> Path | None:
    """Returns a file as a path; None if there is none."""
    return None if file is None else Path(file)


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Adds the file of a model to the message of an error about its graph."""
    try:
        yield
    except GraphError as error:
        error.args = (f"{file}: {error}",)
        raise


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


def rule_list(rules: Sequence[Rule] | None, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> Sequence[Rule]:
    """Returns the given rules, or the built-in and installed rules if None; of these what `select` and `ignore` leave.

    Raises:
        RuleError: one of them is not a rule, or a selector is a string or matches no rule.
    """
    for name, selectors in (("select", select), ("ignore", ignore)):
        if isinstance(selectors, str):
            raise RuleError(f"{name} is a string; use a tuple of strings: ({selectors!r},)")
    found = catalog.load() if rules is None else rules
    for rule in found:
        if not isinstance(rule, Rule):
            choice = "select=[…]; rule files are loaded by qdqgraph.rules([PATH])"
            raise RuleError(f"rules contains {rule!r}, which is not a rule; to choose by code, use {choice}")
    return catalog.select(found, select, ignore) if select or ignore else found


def option_values(options: Options | None, settings: Mapping[str, Any], rules: Sequence[Rule] | None = None) -> Options:
    """Returns the given options, or options from settings by name.

    Args:
        options: options.
        settings: fields of `Options` by name; lists need not be tuples, and `also` may select rules by name or prefix.
        rules: the rules that `also` selects from; the built-in and installed rules if None.

    Raises:
        ModelError: both are given, or a value is not valid.
        RuleError: `also` selects no rule, or the policy is unknown.
    """
    if options is not None and settings:
        raise ModelError("give either options or settings by name, not both")
    lists = {name for name, option in Options.table().items() if option.kind == "list"}
    values: dict[str, Any] = {
        name: tuple(value) if name in lists and isinstance(value, list) else value for name, value in settings.items()
    }
    found = options or Options(**values)
    if not settings.get("also"):
        return found
    return replace(found, also=tuple(rule.code for rule in catalog.select(rule_list(rules), found.also)))


def byte_count(size: Memory) -> int:
    """The number of bytes that a number, or a text such as "2GiB", "500M" or "1073741824", names.

    Raises:
        ModelError: it is not a size.
    """
    if not isinstance(size, str):
        return size
    units = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
    number = size.strip().lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        count = int(float(number.removesuffix(unit)) * (1 << units[unit]))
        if not 0 < count < 1 << 63:
            raise ValueError(size)
        return count
    except (KeyError, ValueError, OverflowError) as error:
        raise ModelError(f"{size[:40]!r} is not a size in bytes: write 2GiB or 500MiB") from error


__all__ = [
    "File",
    "Memory",
    "Model",
    "Progress",
    "byte_count",
    "log_step",
    "option_values",
    "path",
    "read",
    "rule_list",
    "samples",
]
