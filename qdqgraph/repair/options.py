"""`Options`: what a repair may do. The one list of these settings.

The command line's options and the keys of `[tool.qdqgraph]` follow from the fields here: a new
option is one field, and the code that reads it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from ..errors import ModelError
from ..rulekit.finding import Finding
from ..rulekit.policy import Policy, usages
from ..targets.target import DEFAULT, NAMES, Target
from .requests import WeightFormat

Kind = Literal["text", "number", "flag", "list"]


@dataclass(frozen=True)
class Option:
    """How an option is written outside Python.

    Attributes:
        name: the command line's option without its dashes, and the key of the settings file.
        kind: text, a number, a flag, or a list; lists of the command line and of the settings file add up.
        help: one line; metavar: what stands for the value in it.
        choices: the values allowed; empty where any text is.
        check: `qdqgraph check` and its like take it too, not `fix` alone.
        setting: it may stand in the settings file.
    """

    name: str
    kind: Kind
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    check: bool = False
    setting: bool = True


def _option(name: str, kind: Kind, help: str, **more: Any) -> Mapping[str, Option]:
    """Metadata of a field of `Options`; see `Option`."""
    return {"option": Option(name, kind, help, **more)}


@dataclass(frozen=True)
class Options:
    """What a repair may do.

    Attributes:
        policy: the scale of a group, see `qdqgraph.rulekit.policy`.
        max_bits_lost: the guard: how many bits of resolution a site may lose to its group's scale.
        exact: apply bit-exact repairs only.
        only, skip: globs on tensor and node names; findings elsewhere are reported, not repaired.
        also: codes of rules whose repairs are applied on request only.
        target: the generation of TensorRT that the model is for, by its name.
        weights: store quantized weights as "int8" or as "float" numbers upstream of their Q; None leaves them.
    """

    policy: str = field(
        default="max",
        metadata=_option("policy", "text", f"scale of a group: {usages()}", check=True),
    )
    max_bits_lost: float = field(
        default=1.0,
        metadata=_option(
            "max-bits-lost",
            "number",
            "refuse a tie that costs a tensor more resolution (default 1.0)",
            metavar="BITS",
            check=True,
        ),
    )
    target: str = field(
        default=DEFAULT,
        metadata=_option(
            "target",
            "text",
            f"the TensorRT generation the model is for (default {DEFAULT})",
            choices=NAMES,
            check=True,
        ),
    )
    exact: bool = field(default=False, metadata=_option("exact", "flag", "bit-exact repairs only"))
    weights: WeightFormat | None = field(
        default=None,
        metadata=_option(
            "weights",
            "text",
            "store quantized weights as INT8 integers, or as float numbers upstream of their Q",
            choices=("int8", "float"),
            setting=False,
        ),
    )
    also: tuple[str, ...] = field(
        default=(), metadata=_option("also", "list", "apply these on-request repairs too", metavar="CODES")
    )
    only: tuple[str, ...] = field(
        default=(), metadata=_option("only", "list", "repair only these nodes or tensors", metavar="GLOB")
    )
    skip: tuple[str, ...] = field(
        default=(), metadata=_option("except", "list", "leave these nodes or tensors unchanged", metavar="GLOB")
    )

    def __post_init__(self) -> None:
        """Refuses unusable values.

        Raises:
            ModelError: a setting has a wrong type or an unknown value. RuleError: the policy is unknown.
        """
        Target.named(self.target)
        if self.weights not in (None, "int8", "float"):
            raise ModelError(f"weights is {self.weights!r}; write 'int8', 'float' or None")
        if not isinstance(self.max_bits_lost, int | float) or not self.max_bits_lost >= 0:
            raise ModelError(f"max_bits_lost is {self.max_bits_lost!r}; write a number of bits, 0 or more")
        for name in ("only", "skip", "also"):
            if isinstance(getattr(self, name), str):
                raise ModelError(f"{name} is a string; write a tuple of them: ({getattr(self, name)!r},)")
        Policy.parse(self.policy)

    @classmethod
    def merged(cls, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Options:
        """Options from the command line and a settings file; the command line wins, lists add up.

        Args:
            given: values by field; None, False or () where the command line does not say.
            settings: values by key of the settings file.

        Raises:
            ModelError, RuleError: as `Options`.
        """
        values: dict[str, Any] = {}
        for name, known in cls.table().items():
            mine, theirs = given.get(name), settings.get(known.name)
            if known.kind == "list":
                values[name] = (*(mine or ()), *(theirs or ()))
            elif mine is not None and mine is not False:
                values[name] = mine
            elif theirs is not None:
                values[name] = theirs
        return cls(**values)

    @classmethod
    def table(cls) -> Mapping[str, Option]:
        """How each field is written, by field name, in the order of help texts."""
        return {f.name: cast(Option, f.metadata["option"]) for f in fields(cls)}

    def wants(self, finding: Finding) -> bool:
        """Whether the finding's repair is to be applied: by itself, or as it was asked for."""
        return self.covers(finding) and (finding.repairable or (finding.code in self.also and bool(finding.edits)))

    def covers(self, finding: Finding) -> bool:
        """Whether the finding lies in the part of the network that is to be repaired."""
        names = (finding.place, finding.node)

        def hit(globs: Iterable[str]) -> bool:
            return any(fnmatch.fnmatchcase(name, glob) for name in names for glob in globs)

        return (not self.only or hit(self.only)) and not hit(self.skip)
