"""`OnDemand`: an object some of whose attributes are read from files when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

PENDING = "_pending"


class OnDemand:
    """The base of what calls return with models or weights in it; see `postpone`. Copies and pickles are complete."""

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Reads an attribute that was postponed.

            Raises:
                AttributeError: there is no such attribute.
                ModelError: its file was changed since.
            """
            pending = self.__dict__.get(PENDING, {})
            if name not in pending:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self.__dict__[name] = pending[name]()
            pending.pop(name, None)  # another thread may have read it too
            return self.__dict__[name]

    def __getstate__(self) -> dict[str, Any]:
        complete(self)
        return {name: value for name, value in self.__dict__.items() if name != PENDING}


def postpone(item: OnDemand, name: str, read: Callable[[Any], Any]) -> None:
    """Lets an attribute have another value, computed when it is first asked for.

    Args:
        item: what has the attribute.
        name: an attribute of the object itself: of a dataclass, a field without a default.
        read: gives the value, from the present one.
    """
    item.__dict__.setdefault(PENDING, {})[name] = partial(read, item.__dict__.pop(name))


def complete(item: OnDemand) -> None:
    """Reads the attributes that were postponed; raises as reading them does."""
    for name in [*item.__dict__.get(PENDING, ())]:
        getattr(item, name)
