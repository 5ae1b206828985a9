"""How the scale of a group is chosen: `max`, `output`, `input`, `anchor:<site>` or `fixed:<value>`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import RuleError


@dataclass(frozen=True)
class Policy:
    """How a group's scale is chosen; see the module's docstring."""

    kind: str = "max"
    argument: str = ""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Reads "max", "output", "input", "anchor:<site>" or "fixed:<value>".

        Raises:
            RuleError: any other text, or a fixed value that is no positive finite number.
        """
        kind, _, argument = text.partition(":")
        if kind in ("max", "output", "input") and not argument:
            return cls(kind)
        if kind == "anchor" and argument:
            return cls(kind, argument)
        if kind == "fixed":
            try:
                if 0 < float(argument) < math.inf:
                    return cls(kind, argument)
            except ValueError:
                pass
            raise RuleError(f"policy fixed:{argument}: write a positive number, such as fixed:0.05")
        raise RuleError(f"unknown policy {text!r}: write max, output, input, anchor:<site> or fixed:<value>")
