"""A module's children without the quantizers of its calls, while the module's own forward runs.

A forward that runs all of its children must not run the quantizers of its calls. They are hidden only from that forward
and never removed: other threads, and code after an interrupt, which no hook sees, find all children.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import nn

from ...graph.selectors import HOLDER

_LOCK = threading.Lock()


class Children(dict[str, nn.Module | None]):
    """Replaces the dictionary of a module's children; a copy or a pickle of it is a plain one with all of them.

    Attributes:
        frames: the frames of the module's forward that run now, in every thread.
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
        """The children visible to this thread."""
        return self.copy().keys()

    def values(self) -> Any:
        """The children visible to this thread."""
        return self.copy().values()

    def items(self) -> Any:
        """The children visible to this thread."""
        return self.copy().items()

    def copy(self) -> dict[str, nn.Module | None]:
        """The children visible to this thread."""
        found = self.all()
        if self.frames and runs_in_this_thread(*self.frames):
            found.pop(HOLDER, None)
        return found

    def all(self) -> dict[str, nn.Module | None]:
        """All children."""
        return dict(super().items())

    def __reduce__(self) -> Any:
        return dict, (), None, None, iter(self.all().items())


def hide_functional_quantizers(module: nn.Module) -> Children | None:
    """Hides the quantizers of a module's calls from its forward; None if no call has any.

    torch.export may run another module with the same attributes, and so with these children.
    """
    attributes = module.__dict__
    if HOLDER not in attributes["_modules"]:
        return None
    with _LOCK:
        found = attributes["_modules"]
        if HOLDER in found and not isinstance(found, Children):
            found = attributes["_modules"] = Children(found)
        return found if isinstance(found, Children) else None


def restore_children(module: nn.Module) -> None:
    """Makes a module's children a plain dictionary again."""
    with _LOCK:
        found = module.__dict__["_modules"]
        if isinstance(found, Children):
            module.__dict__["_modules"] = found.all()


def runs_in_this_thread(*frames: FrameType) -> bool:
    """Whether this thread is inside one of these frames."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here not in frames:
        here = here.f_back
    return here is not None
