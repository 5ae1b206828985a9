"""The calls for those who own an export pipeline: a model or its path in, everything else by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from .errors import ModelError, RuleError
from .fp16 import Fp16Model, refuse_target, with_fp16
from .fp16 import to_fp16 as fp16_around_int8
from .model.files import read_model, write_model
from .repair import rounds as repair
from .repair.options import Options
from .repair.rounds import Result
from .rulekit import catalog
from .rulekit.finding import Finding
from .rulekit.rule import Rule
from .targets.target import Target

Model = onnx.ModelProto | str | os.PathLike[str]


def fix(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    fp16: bool = False,
    keep_io: bool = False,
    ranges: Mapping[str, float] | None = None,
    **settings: Any,
) -> Result:
    """Repairs a model: what `qdqgraph fix` does, without its numeric check.

    Args:
        model: a model, which is left as it is, or the path of one.
        rules: the rules to repair by; the built-in and installed ones by default.
        options: what the repair may do; or say it by name, such as `max_bits_lost=1.5` or `target="trt-11"`.
        output: where to write the result, whole or not at all; an existing file is replaced.
        folder: where external data lie; the folder of the file by default.
        fp16, keep_io, ranges: make everything that is not INT8 FP16 at the end, as `to_fp16` does.

    Raises:
        ModelError: the model has no Q/DQ, or cannot be read, imported or written; or an option has no such name, or the
            target takes no FP16 from the file.
        RuleError: `rules` holds what is no rule, or a rule crashed.
        RepairError: TensorRT would refuse the graph and no rule repairs that; the message says why, node by node.
    """
    found, place, source = _read(model, folder)
    chosen = _options(options, settings)
    if fp16:
        refuse_target(Target.named(chosen.target))
    result = repair.fix(found, _rules(rules), chosen, folder=place)
    if fp16:
        result, _ = with_fp16(found, result, place, keep_io=keep_io, ranges=ranges, skip=chosen.skip)
    if output is not None:
        write_model(result.model, Path(output), source, force=True)
    return result


def check(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> tuple[Finding, ...]:
    """What keeps TensorRT from building or fusing a model; see `fix` for the arguments.

    Raises:
        ModelError: the model has no Q/DQ, or cannot be read or imported; or an option has no such name.
    """
    found, place, _ = _read(model, folder)
    return repair.check(found, _rules(rules), _options(options, settings), folder=place)


def strip(
    model: Model,
    nodes: Sequence[str] = (),
    rules: Sequence[Rule] = (),
    *,
    output: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Result:
    """Takes the pairs off the inputs of chosen layers, so that they run in floating point: what `qdqgraph strip` does.

    Args:
        nodes: globs on the names of nodes, and of what they make.
        rules: layers that these rules speak of are chosen, too.

    Raises:
        ModelError: as `fix`; or a glob names no node, or nothing that is chosen is quantized.
    """
    if isinstance(nodes, str):
        raise ModelError(f"nodes is a string; write a tuple of them: ({nodes!r},)")
    found, place, source = _read(model, folder)
    result = repair.strip(found, nodes, _rules(rules), folder=place)
    if output is not None:
        write_model(result.model, Path(output), source, force=True)
    return result


def to_fp16(
    model: Model,
    folder: str | os.PathLike[str] | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    keep_io: bool = False,
    ranges: Mapping[str, float] | None = None,
    skip: Sequence[str] = (),
) -> Fp16Model:
    """Makes everything that is not INT8 FP16, for a strongly typed TensorRT.

    Args:
        output, folder: as `fix`.
        keep_io, ranges, skip: as `fp16.to_fp16`.

    Raises:
        ModelError: as `fix`; or external data are missing, or a node has no form in the operator set of FP16 Q/DQ.
    """
    found, place, source = _read(model, folder)
    made = fp16_around_int8(found, place, keep_io=keep_io, ranges=ranges, skip=skip)
    if output is not None:
        write_model(made.model, Path(output), source, force=True)
    return made


def _read(model: Model, folder: str | os.PathLike[str] | None) -> tuple[onnx.ModelProto, Path, Path]:
    """The model, the folder of its external data, and the path it stands for."""
    if isinstance(model, onnx.ModelProto):
        place = Path(folder or ".")
        return model, place, place / "model.onnx"
    path = Path(model)
    return read_model(path), Path(folder or path.parent), path


def _rules(rules: Sequence[Rule] | None) -> Sequence[Rule]:
    """The rules as given, all that are installed where none are.

    Raises:
        RuleError: one of them is no rule.
    """
    if rules is None:
        return catalog.load()
    for rule in rules:
        if not isinstance(rule, Rule):
            choice = "[r for r in qdqgraph.rules() if r.code in (…)]"
            raise RuleError(f"rules holds {rule!r}, which is no rule; choose by code, for example: {choice}")
    return rules


def _options(options: Options | None, settings: dict[str, Any]) -> Options:
    if options is not None and settings:
        raise ModelError("give options, or settings by name, not both")
    unknown = [name for name in settings if name not in Options.__dataclass_fields__]
    if unknown:
        raise ModelError(f"no option {unknown[0]!r}; there are {', '.join(Options.__dataclass_fields__)}")
    return options or Options(**settings)
