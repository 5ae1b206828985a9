"""Scopes for torch.utils.checkpoint, which runs a function a second time in the backward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing

Bind = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Binds a function to the scope that is open now, also for later runs."""


class Checkpoints:
    """Binds what torch.utils.checkpoint runs again in the backward pass to the scope where it ran first.

    torch's two functions are replaced while any thread has an open scope; each thread uses its own innermost scope.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._users = 0
        self._originals: tuple[Any, Any] = (None, None)

    def enter(self, bind: Bind) -> None:
        """Called when the first scope of this thread opens."""
        here: Any = checkpointing
        with self._lock:
            if not self._users:
                self._originals = here.CheckpointFunction, here._checkpoint_without_reentrant_generator
                here.CheckpointFunction, here._checkpoint_without_reentrant_generator = self, self.generator
            self._users += 1
        self._threads.__dict__.setdefault("open", []).append(bind)

    def leave(self, bind: Bind) -> None:
        """Called when the last scope of this thread closes."""
        here: Any = checkpointing
        self._threads.open.remove(bind)
        with self._lock:
            self._users -= 1
            if not self._users:
                here.CheckpointFunction, here._checkpoint_without_reentrant_generator = self._originals

    def apply(self, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        """Replaces the reentrant `CheckpointFunction`. Without gradients nothing runs again, and an autograd function
        would only hide the call from an exporter: the function runs directly."""
        if not torch.is_grad_enabled():
            return function(*args)
        return self._originals[0].apply(self._bind_here(function), preserve, *args)

    def generator(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Replaces the generator of non-reentrant checkpoints."""
        return self._originals[1](self._bind_here(function), *args, **kwargs)

    def _bind_here(self, function: Callable[..., Any]) -> Callable[..., Any]:
        own: list[Bind] = self._threads.__dict__.get("open", [])
        return own[-1](function) if own else function


CHECKPOINTS = Checkpoints()
"""One per process, like torch's functions."""
