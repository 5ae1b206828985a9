"""What the result of a call depends on beside the model: for its provenance, and to recognize it later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.content import content
from ..repair.options import Options
from ..repair.provenance import differing
from ..rulekit.catalog import builtin_folder
from ..rulekit.codes import LOCK, Lock
from ..rulekit.rule import Rule
from . import given
from .given import Model


def depends_on(options: Options, rules: Sequence[Rule], **more: Any) -> Mapping[str, Any]:
    """What differs from the defaults, by name, as values that JSON has.

    Args:
        options: the settings of the repair.
        rules: those of the run. `selected` has their codes, unless they are the built-in ones; `rule_files` the sha256
            of the files of the others, by code.
        more: further arguments; those that are false are left out.
    """
    folder, codes = builtin_folder(), sorted(rule.code for rule in rules)
    others = {rule.code: rule.file for rule in rules if not rule.file.is_relative_to(folder) and rule.file.is_file()}
    ruled = {
        "selected": codes if set(codes) != Lock.read(folder / LOCK).active else [],
        "rule_files": {code: digest_of(file) for code, file in others.items()},
    }
    return {**differing(options), **{name: value for name, value in (ruled | more).items() if value}}


def digest_of(found: Path | Mapping[str, float]) -> str:
    """sha256 of the bytes of a file, or of the numbers in a mapping."""
    data = found.read_bytes() if isinstance(found, Path) else json.dumps(dict(found), sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def content_of(model: Model | None) -> str:
    """The digest of a model's constants and nodes (`model.content`); "" for None."""
    return "" if model is None else content(*given.read(model, None)[:2])
