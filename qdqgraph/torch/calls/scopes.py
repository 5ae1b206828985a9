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
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from ...errors import TorchError
from ..quantizer.quantizer import settle
from .checkpoints import CHECKPOINTS
from .children import Children, led_here, plain, watched
from .functional import ENTRY, RESHAPING, Call, called, operands_of, operator_of, out_of_place, positional, put, tensors
from .parts import parts_of
from .source import caller

APPLIED = (torch.autograd.function.__file__, "apply")
"""Where an autograd function begins, by file and name of the code."""


@dataclass
class Scope:
    """A module whose forward runs: its path, the module itself, how often each call ran so far, and the frame that runs
    it.

    Attributes:
        children: the module's own, also where torch.export runs a stand-in for it; None where no call holds quantizers.
    """

    path: str
    module: nn.Module
    counts: Counter[tuple[str, str]]
    frame: FrameType
    children: Children | None = None


Apply = Callable[[Scope, Call, int], Callable[[Tensor], Tensor] | None]
"""What to do with an operand: open scope, call, index → a function of the tensor; None leaves it as it is."""
Apart = Callable[[Scope, str], bool]
"""Whether a call of this place is made of its parts (see `parts`), each of which is a call of this place as well."""


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

    def __init__(self, apply: Apply, apart: Apart) -> None:
        super().__init__()
        self.apply, self.apart = apply, apart
        self.opaque: set[str] = set()
        self._threads = threading.local()

    def __reduce__(self) -> Any:
        """A copy has no open scopes."""
        return Scopes, (self.apply, self.apart)

    @property
    def _stack(self) -> list[Scope]:
        found: list[Scope] = self._threads.__dict__.setdefault("stack", [])
        return found

    def open(self, scope: Scope) -> None:
        """A module's forward begins."""
        self.settle()
        if not self._stack:
            CHECKPOINTS.enter(self.again)
            self.__enter__()  # type: ignore[no-untyped-call]
        scope.children = watched(scope.module)
        if scope.children is not None:
            scope.children.frames.append(scope.frame)
        self._stack.append(scope)

    def settle(self) -> None:
        """Closes what an interrupt left open in this thread: torch runs the hooks behind a forward for exceptions, not
        for Ctrl-C."""
        while self._stack and not led_here(self._stack[-1].frame):
            self._pop()
        if not self._stack:
            _leave(self)  # a call that settled could not: while it sees calls, a mode is not on the thread's stack

    def close(self, module: nn.Module) -> None:
        """It ends, and whatever an interrupt left open inside it."""
        while any(scope.module is module for scope in self._stack):
            if self._pop().module is module:
                break

    def _pop(self) -> Scope:
        scope = self._stack.pop()
        if scope.children is not None:
            scope.children.frames.remove(scope.frame)
        if not self._stack:
            _leave(self)
            CHECKPOINTS.leave(self.again)
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
        operands = {} if in_place and operator in RESHAPING else operands_of(operator, moved)
        parts = parts_of(function, args, kwargs)
        seen = bool(operands) or parts is not None
        if seen:
            self.settle()
        scope = self._stack[-1] if seen and self._stack else None
        if scope is not None and _applied(scope.frame):
            self.opaque.add(scope.path)
            scope = None
        place = caller(sys._getframe(1)) if scope is not None else ""
        if scope is None or not place:
            return function(*args, **kwargs)
        if parts is not None and self.apart(scope, place):
            with self:
                return parts()
        if not operands:
            return function(*args, **kwargs)
        call = Call(operator, place, scope.counts[operator, place])
        scope.counts[operator, place] += 1
        kept = in_place and torch.is_grad_enabled()  # the backward pass reads what the quantizers got
        made = {i: x.clone() if kept and x is moved[0] else x for i, x in operands.items()}
        new = {i: own(x) for i, x in made.items() if (own := self.apply(scope, call, i)) is not None}
        if 0 in new and in_place:
            apart, rest = out_of_place(function, operator, rest)
            return put(moved[0], called(apart, operator, moved, rest, new))
        return called(function, operator, moved, rest, new) if new else function(*args, **kwargs)


def _applied(frame: FrameType) -> bool:
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


class Copied:
    """What fx calls with a copy of a GraphModule, which it makes without the module's hooks."""

    def __init__(self, scopes: Scopes, path: str) -> None:
        self.scopes, self.path = scopes, path

    def __call__(self, module: fx.GraphModule) -> None:
        """The copy, which has a copy of this as well, opens its own scope."""
        own = next(hook for hook in module._deepcopy_hooks if isinstance(hook, Copied))
        _hook(module, own.scopes, own.path)


def attach(model: nn.Module, scopes: Scopes) -> None:
    """Lets every module of a model open its scope, and no other than this; scripted modules have no calls to see."""
    detach(model)
    for path, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            _hook(module, scopes, path)
        if isinstance(module, fx.GraphModule):
            module._register_deepcopy_hook(Copied(scopes, path))


def _hook(module: nn.Module, scopes: Scopes, path: str) -> None:
    module.register_forward_pre_hook(Enter(scopes, path))
    module.register_forward_hook(Leave(scopes), always_call=True)


def detach(model: nn.Module) -> None:
    """Takes the hooks away again."""
    settle(model)
    for module in model.modules():
        plain(module)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [n for n, hook in hooks.items() if isinstance(hook, Enter | Leave)]:
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)
        if isinstance(module, fx.GraphModule):
            module._deepcopy_hooks = [hook for hook in module._deepcopy_hooks if not isinstance(hook, Copied)]


def attached(model: nn.Module) -> Scopes | None:
    """The scopes that a model's modules open."""
    found = (hook for hook in model._forward_pre_hooks.values() if isinstance(hook, Enter))
    return next((hook.scopes for hook in found), None)
