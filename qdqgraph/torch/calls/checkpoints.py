"""What torch.utils.checkpoint runs again in the backward pass belongs to the scope where it ran first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing

Bind = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a function run in the scope that is open now, whenever it runs."""


class Checkpoints:
    """Binds what torch.utils.checkpoint runs again in the backward pass to the scope where it ran first.

    torch's functions are exchanged while any thread has an open scope; each thread's own innermost scopes are asked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._users = 0
        self._kept: tuple[Any, Any] = (None, None)

    def enter(self, bind: Bind) -> None:
        """Scopes open in this thread."""
        here: Any = checkpointing
        with self._lock:
            if not self._users:
                self._kept = here.CheckpointFunction, here._checkpoint_without_reentrant_generator
                here.CheckpointFunction, here._checkpoint_without_reentrant_generator = self, self.generator
            self._users += 1
        self._threads.__dict__.setdefault("open", []).append(bind)

    def leave(self, bind: Bind) -> None:
        """They close."""
        here: Any = checkpointing
        self._threads.open.remove(bind)
        with self._lock:
            self._users -= 1
            if not self._users:
                here.CheckpointFunction, here._checkpoint_without_reentrant_generator = self._kept

    def apply(self, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        """The reentrant kind. Where nothing runs again it would only hide the function from an exporter."""
        if not torch.is_grad_enabled():
            return function(*args)
        return self._kept[0].apply(self._bound(function), preserve, *args)

    def generator(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The other kind."""
        return self._kept[1](self._bound(function), *args, **kwargs)

    def _bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        own: list[Bind] = self._threads.__dict__.get("open", [])
        return own[-1](function) if own else function


CHECKPOINTS = Checkpoints()
"""One for all, as torch's functions are."""
