"""`Options`: the settings of a repair, defined in one place.

The options of the command line and the keys of `[tool.qdqgraph]` are derived from the fields of this class.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, cast

from ..errors import ModelError
from ..model.dims import Shapes, parsed
from ..rulekit.policy import Policy, usages
from ..targets.target import DEFAULT, NAMES, Target

if TYPE_CHECKING:
    from ..rulekit.finding import Finding

LIMIT, MEASURED_LIMIT = 1.0, 3.0
"""The guard in bits, from scales alone and measured on data; see `Options.limit`."""
WeightFormat = Literal["int8", "float"]
Kind = Literal["text", "number", "flag", "list"]


@dataclass(frozen=True)
class Option:
    """An option on the command line and in the settings file.

    Attributes:
        name: the command-line option without its dashes, and the key in the settings file.
        kind: text, number, flag or list; lists of the command line and of the settings file are concatenated.
        help: one line of help.
        metavar: placeholder for the value in the help.
        choices: the allowed values; empty if any text is allowed.
        check: `qdqgraph check` and the other commands with findings accept it, not only `fix`.
        setting: the settings file may contain it.
        scaled: it is about scales that the file has, so `quantize` does not accept it.
    """

    name: str
    kind: Kind
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    check: bool = False
    setting: bool = True
    scaled: bool = False


def _option(name: str, kind: Kind, help: str, **more: Any) -> Mapping[str, Option]:
    """Returns the metadata of a field of `Options`; see `Option`."""
    return {"option": Option(name, kind, help, **more)}


@dataclass(frozen=True)
class Options:
    """The settings of a repair.

    Attributes:
        policy: how the scale of a group is chosen, see `qdqgraph.rulekit.policy`.
        max_bits_lost: the limit of the guard: the bits of resolution that a site may lose to its group's scale; None
            for the default, see `limit`.
        exact: apply bit-exact repairs only.
        only: globs on tensor and node names; findings elsewhere are reported, not repaired.
        skip: globs on tensor and node names; findings there are reported, not repaired.
        also: codes of rules whose repairs are applied as well: those on request, and those that the forecast says would
            make the engine worse.
        target: name of the TensorRT generation that the model is for.
        shapes: shapes of inputs with dynamic dimensions, such as "x:1x3x224x224", by which the forecast counts bytes;
            the model keeps its dynamic dimensions.
        keep_scales: with data, measure only the scales that are missing.
        bias_correction: with data, take the mean error of each channel off the biases (see `repair.corrections`).
        equalize: with data, move factors of channels between layers, where that lowers the error of the outputs.
        round_weights: with data, round each weight up or down by the error of its layer (see `repair.corrections`).
        weights: store quantized weights as "int8", or as "float" upstream of their Q; None leaves them unchanged.
    """

    policy: str = field(
        default="max",
        metadata=_option("policy", "text", f"scale of a group: {usages()}", check=True),
    )
    max_bits_lost: float | None = field(
        default=None,
        metadata=_option(
            "max-bits-lost",
            "number",
            "refuse a tie if a tensor would lose more resolution (default 1.0; measured on data 3.0)",
            metavar="BITS",
            check=True,
        ),
    )
    target: str = field(
        default=DEFAULT,
        metadata=_option(
            "target",
            "text",
            f"TensorRT generation of the model (default {DEFAULT})",
            choices=NAMES,
            check=True,
        ),
    )
    shapes: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "shape",
            "list",
            "shape of an input with dynamic dimensions, for the bytes of the forecast alone",
            metavar="NAME:1x3x224x224",
            check=True,
            setting=False,
        ),
    )
    keep_scales: bool = field(
        default=False,
        metadata=_option(
            "keep-scales", "flag", "with --data: measure only the scales that are missing", setting=False, scaled=True
        ),
    )
    equalize: bool = field(
        default=False,
        metadata=_option(
            "equalize",
            "flag",
            "with --data: move factors of channels from layer to layer, where the outputs get better on "
            "samples that they were not computed from",
            setting=False,
        ),
    )
    bias_correction: bool = field(
        default=False,
        metadata=_option(
            "bias-correction",
            "flag",
            "with --data: take each layer's mean error per channel off its bias, where that helps on "
            "samples it was not computed from",
            setting=False,
        ),
    )
    round_weights: bool = field(
        default=False,
        metadata=_option(
            "round-weights",
            "flag",
            "with --data: round each weight up or down so that its layer's output has the least error",
            setting=False,
        ),
    )
    exact: bool = field(default=False, metadata=_option("exact", "flag", "bit-exact repairs only", scaled=True))
    weights: WeightFormat | None = field(
        default=None,
        metadata=_option(
            "weights",
            "text",
            "store quantized weights as INT8, or as float upstream of their Q",
            choices=("int8", "float"),
            setting=False,
        ),
    )
    also: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "also",
            "list",
            "apply these as well: repairs on request, or with which the engine is worse",
            metavar="CODES",
        ),
    )
    only: tuple[str, ...] = field(
        default=(), metadata=_option("only", "list", "repair, or quantize, only these nodes or tensors", metavar="GLOB")
    )
    skip: tuple[str, ...] = field(
        default=(), metadata=_option("except", "list", "leave these nodes or tensors unchanged", metavar="GLOB")
    )

    def __post_init__(self) -> None:
        """Rejects invalid values.

        Raises:
            ModelError: a setting has a wrong type or an unknown value.
            RuleError: the policy is unknown.
        """
        Target.named(self.target)
        if self.weights not in (None, "int8", "float"):
            raise ModelError(f"weights is {self.weights!r}; use 'int8', 'float' or None")
        lost = self.max_bits_lost
        if lost is not None and (not isinstance(lost, int | float) or not lost >= 0):
            raise ModelError(f"max_bits_lost is {self.max_bits_lost!r}; use a number of bits, 0 or more")
        for name in ("only", "skip", "also", "shapes"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ModelError(f"{name} is a string; use a tuple of strings: ({given!r},)")
            if not isinstance(given, tuple | list):
                raise ModelError(f"{name} is {given!r}; use a tuple of strings")
        Policy.parse(self.policy)
        self.sizes  # noqa: B018 - refuses what is no shape

    @property
    def sizes(self) -> Shapes:
        """The shapes by the name of the input; the last one of several.

        Raises:
            ModelError: one has another form.
        """
        return dict(map(parsed, self.shapes))

    def limit(self, measured: bool) -> float:
        """The limit of the guard in bits. By default 1.0 where only scales can be compared, and 3.0 where the error is
        measured on data: on trained networks it costs less than 0.1 dB at the outputs (docs/decisions/0015)."""
        if self.max_bits_lost is not None:
            return self.max_bits_lost
        return MEASURED_LIMIT if measured else LIMIT

    @classmethod
    def merged(cls, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Options:
        """Returns options from the command line and a settings file.

        The command line takes precedence; lists are concatenated.

        Args:
            given: values by field name; None, False or () if the command line does not set them.
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
        """Returns the `Option` of each field, by field name, in the order of the help."""
        return {f.name: cast(Option, f.metadata["option"]) for f in fields(cls)}

    def wants(self, finding: Finding) -> bool:
        """Returns whether to apply the finding's repair: automatically, or because `also` requests it. What cannot be
        done, such as a pair without a known scale, `also` does not change."""
        requested = finding.code in self.also and bool(finding.edits) and not finding.refused
        return self.covers(finding) and (finding.repairable or requested)

    def covers(self, finding: Finding) -> bool:
        """Returns whether `only` and `skip` select the finding for repair."""
        return self.selects(finding.place, finding.node)

    def selects(self, *names: str) -> bool:
        """Returns whether `only` and `skip` select what has these names."""

        def hit(globs: Iterable[str]) -> bool:
            return any(fnmatch.fnmatchcase(name, glob) for name in names for glob in globs)

        return (not self.only or hit(self.only)) and not hit(self.skip)
