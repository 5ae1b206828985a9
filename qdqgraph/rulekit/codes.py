"""`codes.lock`: every code that a folder of rules has ever used, so that none is reused or lost.

One line per code: the code, the rule's name, and its state: `active`, `retired`, or `now CODE` if the rule has another
code or name now. Lines are added or change their state, and are never removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RuleError
from .rule import Rule

LOCK = "codes.lock"


@dataclass(frozen=True)
class Lock:
    """The lines of a lock file: (code, name) to state."""

    states: Mapping[tuple[str, str], str]

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Reads a lock file; an empty lock if there is none.

        Raises:
            RuleError: a line does not have this format.
        """
        states: dict[tuple[str, str], str] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for number, line in enumerate(lines, start=1):
            words = line.split("#")[0].split()
            if not words:
                continue
            if (
                len(words) not in (3, 4)
                or words[2] not in ("active", "retired", "now")
                or len(words) - 3 != (words[2] == "now")
            ):
                raise RuleError(
                    f"{path}:{number}: {line!r}: write CODE NAME active, CODE NAME retired, or CODE NAME now CODE"
                )
            states[words[0], words[1]] = " ".join(words[2:])
        return cls(states)

    @property
    def active(self) -> frozenset[str]:
        """The codes of the rules."""
        return frozenset(code for (code, _), state in self.states.items() if state == "active")

    @property
    def gone(self) -> frozenset[str]:
        """Codes that no rule uses any more."""
        return frozenset(code for code, _ in self.states) - self.active

    @property
    def moved(self) -> Mapping[str, str]:
        """Former codes and names → the code that the rule has now."""
        found: dict[str, str] = {}
        for (code, name), state in self.states.items():
            if state.startswith("now "):
                found[name] = state.removeprefix("now ")
                if code in self.gone:
                    found[code] = state.removeprefix("now ")
        return found

    def differences(self, rules: Sequence[Rule]) -> Iterator[str]:
        """The differences between the lock and the rules, with the line to write."""
        active = {key for key, state in self.states.items() if state == "active"}
        mine = {(rule.code, rule.name) for rule in rules}
        for code, name in sorted(mine - active):
            yield f"{LOCK} does not list {code} {name}: add the line '{code} {name} active'"
        for code, name in sorted(active - mine):
            yield f"{LOCK} lists {code} {name}, which no longer exists: replace active by retired or now CODE"
