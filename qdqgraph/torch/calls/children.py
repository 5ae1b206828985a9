"""A module's children, out of which the quantizers of its calls step aside while its own forward runs.

A forward that runs all its children must not run these. They are never taken away: who asks from elsewhere, from
another thread or after an interrupt, which no hook sees, meets all of them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import nn

from .functional import HOLDER

_LOCK = threading.Lock()


class Children(dict[str, nn.Module | None]):
    """Stands in for the dictionary of a module's children; copied or pickled, it is a plain one with all of them.

    Attributes:
        frames: those that run the module's forward, in whatever thread.
    """

    frames: list[FrameType]

    def __init__(self, children: dict[str, nn.Module | None]) -> None:
        super().__init__(children)
        self.frames = []

    def __iter__(self) -> Iterator[str]:
        return iter(self.copy())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.copy())

    def __len__(self) -> int:
        return len(self.copy())

    def keys(self) -> Any:
        """Those in sight."""
        return self.copy().keys()

    def values(self) -> Any:
        """Those in sight."""
        return self.copy().values()

    def items(self) -> Any:
        """Those in sight."""
        return self.copy().items()

    def copy(self) -> dict[str, nn.Module | None]:
        """Those in sight."""
        found = self.all()
        if self.frames and led_here(*self.frames):
            found.pop(HOLDER, None)
        return found

    def all(self) -> dict[str, nn.Module | None]:
        """All of them."""
        return dict(super().items())

    def __reduce__(self) -> Any:
        return dict, (), None, None, iter(self.all().items())


def watched(module: nn.Module) -> Children | None:
    """A module's children, which now step aside; None where no call of its holds quantizers.

    torch.export may run a stand-in for the module, which shares its attributes and so these.
    """
    attributes = module.__dict__
    with _LOCK:
        found = attributes["_modules"]
        if HOLDER in found and not isinstance(found, Children):
            found = attributes["_modules"] = Children(found)
        return found if isinstance(found, Children) else None


def plain(module: nn.Module) -> None:
    """Makes them a plain dictionary again."""
    with _LOCK:
        found = module.__dict__["_modules"]
        if isinstance(found, Children):
            module.__dict__["_modules"] = found.all()


def led_here(*frames: FrameType) -> bool:
    """Whether one of these frames is among those that run in this thread."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here not in frames:
        here = here.f_back
    return here is not None
