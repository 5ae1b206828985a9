"""How long each rule takes."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..graph.graph import Graph
from .finding import Finding
from .rule import Rule


@dataclass
class Profile:
    """The time that rules spent in `find`.

    Attributes:
        seconds: by the code of the rule.
        scans: how often each rule ran.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    scans: dict[str, int] = field(default_factory=dict)

    def timed(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """Returns the rules; this profile records the time that they take from now on."""
        return tuple(self._timed(rule) for rule in rules)

    def lines(self) -> Iterator[str]:
        """Yields a line for each rule, the slowest first."""
        for code, seconds in sorted(self.seconds.items(), key=lambda item: (-item[1], item[0])):
            yield f"{code:<10} {seconds:9.3f} s in {self.scans[code]} scans"

    def _timed(self, rule: Rule) -> Rule:
        own = type(rule)
        profile = self

        @functools.wraps(own.find)
        def find(self: Rule, graph: Graph) -> Iterator[Finding]:
            profile.scans[self.code] = profile.scans.get(self.code, 0) + 1
            yield from profile._measured(self.code, own.find(self, graph))

        new = copy.copy(rule)
        new.__class__ = type(own.__name__, (own,), {"find": find, "__doc__": own.__doc__, "__module__": own.__module__})
        return new

    def _measured(self, code: str, found: Iterable[Finding]) -> Iterator[Finding]:
        source = iter(found)
        while True:
            start = time.perf_counter()
            try:
                finding = next(source, None)
            finally:
                self.seconds[code] = self.seconds.get(code, 0.0) + time.perf_counter() - start
            if finding is None:
                return
            yield finding
