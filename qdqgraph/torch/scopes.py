"""Scopes: hooks on every module, between which torch's function mode sees each call inside the module's forward.

Only those calls that hold a quantizer are changed. Checkpointed branches run a second time in the backward pass,
outside of any module's forward: while a scope is open, what is checkpointed is bound to its module. Each thread has
scopes of its own; a forward that an interrupt left, which no hook sees, is found closed when the next one begins.
`torch.compile` would move calls away from their places, so it is refused.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from ..errors import TorchError
from .functional import ENTRY, HOLDER, Call, called, operands_of, operator_of, positional, tensors
from .source import caller

APPLIED = (torch.autograd.function.__file__, "apply")
"""Where an autograd function begins, by file and name of the code."""


@dataclass
class Scope:
    """A module whose forward runs: its path, the module itself, how often each call ran so far, and the frame that runs
    it.

    Attributes:
        children: the module's children with the quantizers of its calls. A forward that runs all its children must not
            run these: while a scope is open, they are out of the module's sight.
    """

    path: str
    module: nn.Module
    counts: Counter[tuple[str, str]]
    frame: FrameType | None
    children: Mapping[str, nn.Module | None] = field(default_factory=dict)


Apply = Callable[[Scope, Call, int], Callable[[Tensor], Tensor] | None]
"""What to do with an operand: open scope, call, index → a function of the tensor; None leaves it as it is."""


def _refuse() -> None:
    raise TorchError(
        "torch.compile hides the calls that hold quantizers: run the model as it is, or quantize it without functional "
        "operators"
    )


_refuse._torchdynamo_disable = True  # type: ignore[attr-defined]  # called as it is, not looked into


class Scopes(TorchFunctionMode):
    """The open scopes of one model, and the mode that sees calls inside them.

    Attributes:
        opaque: paths of modules in which autograd functions ran so far: what these call has no place.
    """

    def __init__(self, apply: Apply) -> None:
        super().__init__()
        self.apply = apply
        self.opaque: set[str] = set()
        self._threads = threading.local()
        self._hidden = _Hidden()

    def __reduce__(self) -> Any:
        """A copy has no open scopes."""
        return Scopes, (self.apply,)

    @property
    def _stack(self) -> list[Scope]:
        found: list[Scope] = self._threads.__dict__.setdefault("stack", [])
        return found

    def open(self, scope: Scope) -> None:
        """A module's forward begins."""
        self.settle()
        if not self._stack:
            CHECKPOINTS.enter(self)
            self.__enter__()  # type: ignore[no-untyped-call]
        scope.children = self._hidden.hide(scope.module)
        self._stack.append(scope)

    def settle(self) -> None:
        """Closes what an interrupt left open."""
        while self._stack and not _runs(self._stack[-1].frame):
            self._pop()

    def close(self, module: nn.Module) -> None:
        """It ends, and whatever an interrupt left open inside it."""
        while any(scope.module is module for scope in self._stack):
            if self._pop().module is module:
                break

    def _pop(self) -> Scope:
        scope = self._stack.pop()
        self._hidden.show(scope.module)
        if not self._stack:
            _leave(self)
            CHECKPOINTS.leave(self)
        return scope

    def again(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, in the scope that is open now, whenever it runs."""
        now = self._stack[-1]
        counts = Counter(now.counts)

        def run(*args: Any, **kwargs: Any) -> Any:
            own = Counter(counts)
            self.open(Scope(now.path, now.module, own, sys._getframe()))
            try:
                return function(*args, **kwargs)
            finally:
                self.close(now.module)
                if any(scope is now for scope in self._stack):
                    now.counts.update(own - now.counts)

        return run

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """One call."""
        kwargs = kwargs or {}
        operator, in_place = operator_of(function)
        in_place = in_place or bool(kwargs.get("inplace"))
        moved, rest = positional(operator, args, kwargs)
        operands = operands_of(operator, moved)
        scope = next((s for s in reversed(self._stack) if _runs(s.frame)), None) if operands else None
        if scope is not None and _applied(scope.frame):
            self.opaque.add(scope.path)
            scope = None
        place, assigned = caller(sys._getframe(1)) if scope is not None else ("", False)
        if in_place and not assigned:
            operands.pop(0, None)  # the caller goes on with the tensor itself: another cannot stand in for it
        if scope is None or not place or not operands:
            return function(*args, **kwargs)
        call = Call(operator, place, scope.counts[operator, place])
        scope.counts[operator, place] += 1
        new = {i: made(x) for i, x in operands.items() if (made := self.apply(scope, call, i)) is not None}
        if 0 in new and in_place:
            function = getattr(torch, operator)  # a += b becomes a = a + b
        return called(function, operator, moved, rest, new) if new else function(*args, **kwargs)


class _Hidden:
    """Children that modules do not see while a scope of theirs is open, in whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[dict[str, nn.Module | None], list[None]]] = {}

    def hide(self, module: nn.Module) -> Mapping[str, nn.Module | None]:
        """Takes the quantizers of a module's calls out of its sight; returns all its children.

        torch.export may run a stand-in for the module, which shares its attributes: by these it is known.
        """
        attributes = module.__dict__
        with self._lock:
            children, users = self._kept.get(id(attributes), (attributes["_modules"], []))
            if not users:
                if HOLDER not in children:
                    return children
                attributes["_modules"] = {name: child for name, child in children.items() if name != HOLDER}
                self._kept[id(attributes)] = children, users
            users.append(None)
            return children

    def show(self, module: nn.Module) -> None:
        """Gives them back, beside what the forward itself set."""
        attributes = module.__dict__
        with self._lock:
            children, users = self._kept.get(id(attributes), ({}, []))
            if users:
                users.pop()
                if not users:
                    children.update(attributes["_modules"])
                    attributes["_modules"] = children
                    del self._kept[id(attributes)]


def _runs(frame: FrameType | None) -> bool:
    """Whether a frame is one of those that led here."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not frame:
        here = here.f_back
    return here is not None


def _applied(frame: FrameType | None) -> bool:
    """Whether an autograd function, which stands in an exported graph for all that it calls, runs inside a frame."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not frame:
        if (here.f_code.co_filename, here.f_code.co_name) == APPLIED:
            return True
        here = here.f_back
    return False


def _leave(mode: TorchFunctionMode) -> None:
    """Takes a mode off the thread's stack, also from below those that were entered since."""
    above = []
    while mode in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
        if (top := _pop_mode()) is mode:  # type: ignore[no-untyped-call]
            break
        above.append(top)
    for other in reversed(above):
        _push_mode(other)  # type: ignore[no-untyped-call]


class _Checkpoints:
    """Binds what torch.utils.checkpoint runs again in the backward pass to the scope where it ran first.

    torch's functions are exchanged while any thread has an open scope; each thread's own innermost scopes are asked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._users = 0
        self._kept: tuple[Any, Any] = (None, None)

    def enter(self, scopes: Scopes) -> None:
        """Scopes open in this thread."""
        here: Any = checkpointing
        with self._lock:
            if not self._users:
                self._kept = here.CheckpointFunction, here._checkpoint_without_reentrant_generator
                here.CheckpointFunction, here._checkpoint_without_reentrant_generator = self, self.generator
            self._users += 1
        self._threads.__dict__.setdefault("open", []).append(scopes)

    def leave(self, scopes: Scopes) -> None:
        """They close."""
        here: Any = checkpointing
        self._threads.open.remove(scopes)
        with self._lock:
            self._users -= 1
            if not self._users:
                here.CheckpointFunction, here._checkpoint_without_reentrant_generator = self._kept

    def apply(self, function: Callable[..., Any], *args: Any) -> Any:
        """The reentrant kind."""
        return self._kept[0].apply(self._bound(function), *args)

    def generator(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The other kind."""
        return self._kept[1](self._bound(function), *args, **kwargs)

    def _bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        own: list[Scopes] = self._threads.__dict__.get("open", [])
        return own[-1].again(function) if own else function


CHECKPOINTS = _Checkpoints()
"""One for all, as torch's functions are."""


class Enter:
    """The hook that opens a module's scope."""

    def __init__(self, scopes: Scopes, path: str) -> None:
        self.scopes, self.path = scopes, path

    def __call__(self, module: nn.Module, args: Any) -> Any:
        """Called in front of the forward; the arguments of the forward, where one is quantized as it enters."""
        if torch.compiler.is_dynamo_compiling():
            _refuse()
        scope = Scope(self.path, module, Counter(), sys._getframe(1))
        self.scopes.open(scope)
        new = {i: made(x) for i, x in tensors(args).items() if (made := self.scopes.apply(scope, ENTRY, i)) is not None}
        return tuple(new.get(i, x) for i, x in enumerate(args)) if new else None

    def settle(self) -> None:
        """See `Scopes.settle`."""
        self.scopes.settle()


class Leave:
    """The hook that closes it, also where the forward raised."""

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Called behind the forward."""
        if not torch.compiler.is_dynamo_compiling():
            self.scopes.close(module)


def attach(model: nn.Module, scopes: Scopes) -> None:
    """Lets every module of a model open its scope, and no other than this; scripted modules have no calls to see."""
    detach(model)
    for path, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.register_forward_pre_hook(Enter(scopes, path))
            module.register_forward_hook(Leave(scopes), always_call=True)


def detach(model: nn.Module) -> None:
    """Takes the hooks away again."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [n for n, hook in hooks.items() if isinstance(hook, Enter | Leave)]:
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)


def attached(model: nn.Module) -> Scopes | None:
    """The scopes that a model's modules open."""
    found = (hook for hook in model._forward_pre_hooks.values() if isinstance(hook, Enter))
    return next((hook.scopes for hook in found), None)
