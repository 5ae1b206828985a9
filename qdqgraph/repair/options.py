"""`Options`: what a repair may do, by name; the same on the command line, in a settings file and in a call."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ModelError
from ..rulekit.finding import Finding
from ..targets.target import DEFAULT, Target
from .requests import WeightFormat


@dataclass(frozen=True)
class Options:
    """What a repair may do.

    Attributes:
        policy: the scale of a group, see `qdqgraph.solver`.
        max_bits_lost: the guard: how many bits a site may lose to its group's scale.
        exact: apply bit-exact repairs only.
        only, skip: globs on tensor and node names; findings elsewhere are reported, not repaired.
        also: codes of rules whose repairs are applied on request only.
        target: the generation of TensorRT that the model is for, by its name.
        weights: store quantized weights as "int8" or as "float" numbers in front of their Q; None leaves them.
    """

    policy: str = "max"
    max_bits_lost: float = 1.0
    exact: bool = False
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    target: str = DEFAULT
    weights: WeightFormat | None = None

    def __post_init__(self) -> None:
        """Refuses what is no setting.

        Raises:
            ModelError: a setting has a wrong type or an unknown value.
        """
        Target.named(self.target)
        if self.weights not in (None, "int8", "float"):
            raise ModelError(f"weights is {self.weights!r}; write 'int8', 'float' or None")
        if not isinstance(self.max_bits_lost, int | float) or not self.max_bits_lost >= 0:
            raise ModelError(f"max_bits_lost is {self.max_bits_lost!r}; write a number of bits, 0 or more")
        for name in ("only", "skip", "also"):
            if isinstance(getattr(self, name), str):
                raise ModelError(f"{name} is a string; write a tuple of them: ({getattr(self, name)!r},)")

    def wants(self, finding: Finding) -> bool:
        """Whether the finding's repair is to be applied: by itself, or as it was asked for."""
        return self.covers(finding) and (finding.repairable or (finding.code in self.also and bool(finding.edits)))

    def covers(self, finding: Finding) -> bool:
        """Whether the finding lies in the part of the network that is to be repaired."""
        names = (finding.place, finding.node)

        def hit(globs: Iterable[str]) -> bool:
            return any(fnmatch.fnmatchcase(name, glob) for name in names for glob in globs)

        return (not self.only or hit(self.only)) and not hit(self.skip)
