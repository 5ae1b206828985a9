"""How the scale of a group is chosen. Each policy is one class in this module; no other list of them exists.

A policy decides which of two sites of a group determines the scale. The decision must not depend on the order of
comparison, so that the solver can join groups in any order and keep one site per group.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import RuleError

if TYPE_CHECKING:
    from ..graph.graph import Graph


@dataclass(frozen=True)
class SiteScale:
    """A site that has a scale: its position in topological order, its tensor name, its largest scale (amax / 127)."""

    order: int
    site: str
    scale: float


@dataclass(frozen=True)
class Policy(ABC):
    """Chooses the scale of a group; a subclass is one policy, and its docstring is the help text."""

    name: ClassVar[str]
    """The word before the colon."""
    argument: ClassVar[str] = ""
    """What follows the colon, in capitals for the help text; empty if there is no colon."""

    @abstractmethod
    def prefer(self, a: SiteScale, b: SiteScale) -> SiteScale:
        """The one of two sites of a group that determines the scale, independent of their order."""

    def scale(self, preferred: SiteScale) -> float:
        """The group's scale, from the site that is preferred over all others."""
        return preferred.scale

    def source(self, preferred: SiteScale) -> str:
        """The site whose scale the group gets; empty if it is no site's."""
        return preferred.site

    def anchor(self) -> str:
        """A tensor that the model must contain; empty if the policy names none."""
        return ""

    @classmethod
    def read(cls, argument: str) -> Policy:
        """The policy with the argument after the colon.

        Raises:
            ValueError: the argument is unusable; the message says what to write.
        """
        return cls()

    @classmethod
    def usage(cls) -> str:
        """How the policy is written: "max", "fixed:VALUE"."""
        return f"{cls.name}:{cls.argument}" if cls.argument else cls.name

    @staticmethod
    def parse(text: str) -> Policy:
        """The policy that a text names.

        Raises:
            RuleError: no policy has that name, or its argument is missing or unusable.
        """
        name, colon, argument = text.partition(":")
        kind = next((kind for kind in kinds() if kind.name == name), None)
        if kind is None or (bool(argument) or bool(colon)) != bool(kind.argument):
            raise RuleError(f"unknown policy {text!r}: write {', '.join(kind.usage() for kind in kinds())}")
        try:
            return kind.read(argument)
        except ValueError as error:
            raise RuleError(f"policy {text}: {error}") from error

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return self.name


class Max(Policy):
    """The largest scale in the group: nothing clips, no data needed (default)."""

    name = "max"

    def prefer(self, a: SiteScale, b: SiteScale) -> SiteScale:
        """The site with the larger scale."""
        return max(a, b, key=lambda s: (s.scale, s.site))


class Output(Policy):
    """The scale of the last site in topological order that has one."""

    name = "output"

    def prefer(self, a: SiteScale, b: SiteScale) -> SiteScale:
        """The later site."""
        return max(a, b, key=lambda s: (s.order, s.site))


class Input(Policy):
    """The scale of the first site in topological order that has one."""

    name = "input"

    def prefer(self, a: SiteScale, b: SiteScale) -> SiteScale:
        """The earlier site."""
        return min(a, b, key=lambda s: (s.order, s.site))


@dataclass(frozen=True)
class Anchor(Policy):
    """The scale of this site in the group that contains it, max in all other groups."""

    name = "anchor"
    argument = "SITE"
    site: str = ""

    def prefer(self, a: SiteScale, b: SiteScale) -> SiteScale:
        """The anchor, else the site with the larger scale."""
        return max(a, b, key=lambda s: (s.site == self.site, s.scale, s.site))

    def anchor(self) -> str:
        """The site."""
        return self.site

    @classmethod
    def read(cls, argument: str) -> Anchor:
        """The policy with that site as anchor.

        Raises:
            ValueError: the argument is empty.
        """
        if not argument:
            raise ValueError("write the tensor that determines the scale, such as anchor:conv1")
        return cls(argument)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.name}:{self.site}"


@dataclass(frozen=True)
class Fixed(Policy):
    """This value, for every group whose scales differ."""

    name = "fixed"
    argument = "VALUE"
    text: str = ""

    def prefer(self, a: SiteScale, b: SiteScale) -> SiteScale:
        """The site with the larger scale; no site determines the group's scale."""
        return max(a, b, key=lambda s: (s.scale, s.site))

    def scale(self, preferred: SiteScale) -> float:
        """The value of the argument."""
        return float(self.text)

    def source(self, preferred: SiteScale) -> str:
        """Empty: the scale is no site's."""
        return ""

    @classmethod
    def read(cls, argument: str) -> Fixed:
        """The policy with that scale.

        Raises:
            ValueError: it is not a positive finite number.
        """
        try:
            usable = 0 < float(argument) < math.inf
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("write a positive number, such as fixed:0.05")
        return cls(argument)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.name}:{self.text}"


def kinds() -> tuple[type[Policy], ...]:
    """Every policy, in the order of this module."""
    here = [value for value in globals().values() if isinstance(value, type) and Policy in value.__mro__]
    return tuple(kind for kind in here if not inspect.isabstract(kind))


def usages() -> str:
    """How policies are written, for help texts: "max (default), output, input, anchor:SITE, fixed:VALUE"."""
    return ", ".join(kind.usage() for kind in kinds()).replace("max", "max (default)", 1)


DEFAULT = Max()
"""The policy of a run without one."""


def unknown_anchor(graph: Graph, policy: Policy) -> str:
    """Returns a message if a policy names a tensor that the model does not have as a site, "" otherwise."""
    name = policy.anchor()
    if (site := graph.source(name)) != name:
        return f"policy {policy}: {name!r} is {site!r} in another type: write anchor:{site}"
    if not name or name in graph.inputs or graph.producer(name) is not None:
        return ""
    return f"policy {policy}: the model has no tensor {name!r}"
