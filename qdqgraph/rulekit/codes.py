"""`codes.lock`: every code a folder of rules ever gave out, so that none is used twice or lost.

One line a code: the code, the rule's name, and its state: `active`, `retired`, or `now CODE` where the rule goes on
under another code or name. Lines are only added or given another state.
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
        """Reads a lock file; an empty lock where there is none.

        Raises:
            RuleError: a line is not of the form above.
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
    def gone(self) -> frozenset[str]:
        """Codes that no rule has any more."""
        active = {code for (code, _), state in self.states.items() if state == "active"}
        return frozenset(code for code, _ in self.states) - active

    @property
    def moved(self) -> Mapping[str, str]:
        """Old codes and names, with the code that the rule has now."""
        found: dict[str, str] = {}
        for (code, name), state in self.states.items():
            if state.startswith("now "):
                found[name] = state.removeprefix("now ")
                if code in self.gone:
                    found[code] = state.removeprefix("now ")
        return found

    def differences(self, rules: Sequence[Rule]) -> Iterator[str]:
        """What the lock and the rules disagree about, with the line to write."""
        active = {key for key, state in self.states.items() if state == "active"}
        mine = {(rule.code, rule.name) for rule in rules}
        for code, name in sorted(mine - active):
            yield f"{LOCK} does not list {code} {name}: add the line '{code} {name} active'"
        for code, name in sorted(active - mine):
            yield f"{LOCK} lists {code} {name}, which is gone: write retired or now CODE in place of active"
