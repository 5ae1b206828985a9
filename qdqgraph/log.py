"""The logger of the package, `qdqgraph`: steps of long calls at INFO, decisions of a repair at DEBUG.

The package prints nothing and adds no handler that does; `logging.basicConfig(level="INFO")` shows the steps.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

LOG = logging.getLogger("qdqgraph")
LOG.addHandler(logging.NullHandler())
Progress: TypeAlias = Callable[[str], None]
"""Called with one line before each step."""


@dataclass(frozen=True)
class Logged:
    """Logs each step of a long call.

    Attributes:
        then: called with the same line; None for nothing.
    """

    then: Progress | None = None

    def __call__(self, line: str) -> None:
        """Logs one line."""
        LOG.info("%s", line)
        if self.then is not None:
            self.then(line)

    def __repr__(self) -> str:
        return "log_step" if self.then is None else f"Logged({self.then!r})"


log_step = Logged()
"""What functions call that are given nothing to call."""
