"""Scopes: hooks on every module, between which a function mode of torch intercepts the calls in the module's forward.

Only calls that have a quantizer are changed. Checkpointed branches run a second time in the backward pass, outside any
module's forward: a branch is bound to the scope that is open when it first runs. Each thread has its own scopes. torch
runs no hook when an interrupt ends a forward: its scopes are closed when the next forward begins. `torch.compile` would
move calls away from their sites, so it is refused.
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
from ..quantizer.base import Quantizer
from ..quantizer.quantizer import close_interrupted_scopes
from .checkpoints import CHECKPOINTS
from .children import Children, hide_functional_quantizers, restore_children, runs_in_this_thread
from .functional import (
    ENTRY,
    RESHAPING,
    Call,
    call_with,
    operands_first,
    operands_of,
    operator_name,
    out_of_place,
    overwrite,
    quantizable_tensors,
)
from .parts import has_parts, parts_of
from .source import call_site, is_library_code

AUTOGRAD_APPLY = (torch.autograd.function.__file__, "apply")
"""The frame in which an autograd function begins: file and name of its code."""


@dataclass
class Scope:
    """A module whose forward runs.

    Attributes:
        path: the module's path in the model.
        counts: how often each call ran so far, by operator and site.
        frame: the frame of the forward.
        operators: the operators whose calls can have quantizers in this scope; None: any.
        reachable: these, and those of the scopes around it: an interrupt may have left this scope open.
        children: the module's children, which hide the quantizers of its calls; None if no call has any.
    """

    path: str
    module: nn.Module
    counts: Counter[tuple[str, str]]
    frame: FrameType
    operators: frozenset[str] | None = None
    children: Children | None = None
    reachable: frozenset[str] = frozenset()


QuantizerOf = Callable[[Scope, Call, int], Callable[[Tensor], Tensor] | None]
"""Finds the quantizer of an operand: open scope, call, index of the operand → a function of the tensor, or None."""
Decomposes = Callable[[Scope, str], bool]
"""Whether the calls at a site are computed from their parts (see `parts`), each of them a call at the same site."""
OperatorsOf = Callable[[nn.Module], frozenset[str]]
"""The operators whose calls have quantizers in a module's own forward, `ENTRY`'s included."""
NO_COUNTS = Counter[tuple[str, str]]()
"""The counts of a scope without quantizers, in which no call is counted."""


def _refuse() -> None:
    raise TorchError(
        "torch.compile hides the calls that have quantizers: run the model without it, or quantize no functional "
        "operators"
    )


_refuse._torchdynamo_disable = True  # type: ignore[attr-defined]  # called, not traced


class Scopes(TorchFunctionMode):
    """The open scopes of one model, and the mode that intercepts calls inside them.

    Attributes:
        operators_of: None: every call of every module is intercepted, as a probe needs it. Otherwise only calls of
            these operators are inspected; other calls, and modules of torch and of a library, cost almost nothing.
        skips_quantizers: the mode has nothing to intercept inside quantizers (see `Quantizer.forward`).
        opaque: paths of modules in which autograd functions ran so far; the calls inside these have no places.
    """

    skips_quantizers = True

    def __init__(
        self, quantizer_of: QuantizerOf, decomposes: Decomposes, operators_of: OperatorsOf | None = None
    ) -> None:
        super().__init__()
        self.quantizer_of, self.decomposes, self.operators_of = quantizer_of, decomposes, operators_of
        self.opaque: set[str] = set()
        self._threads = threading.local()

    def __reduce__(self) -> Any:
        """A copy has no open scopes."""
        return Scopes, (self.quantizer_of, self.decomposes, self.operators_of)

    @property
    def _stack(self) -> list[Scope]:
        found: list[Scope] = self._threads.__dict__.setdefault("stack", [])
        return found

    def open(self, scope: Scope) -> None:
        """Called when a module's forward begins."""
        self.close_interrupted()
        stack = self._stack
        if not stack:
            CHECKPOINTS.enter(self.bind_here)
            self.__enter__()  # type: ignore[no-untyped-call]
        scope.children = hide_functional_quantizers(scope.module)
        if scope.children is not None:
            scope.children.frames.append(scope.frame)
        around = stack[-1].reachable if stack else frozenset()
        scope.reachable = around | scope.operators if scope.operators else around
        stack.append(scope)

    def close_interrupted(self) -> None:
        """Closes the scopes that an interrupt left open in this thread: torch runs the hooks after a forward for
        exceptions, not for Ctrl-C."""
        stack = self._stack
        while stack and not runs_in_this_thread(stack[-1].frame):
            self._close_innermost()
        if not stack:
            _remove_mode(self)  # during a call the mode is not on the stack, so it may still be there

    def close(self, module: nn.Module) -> None:
        """Closes a module's scope, with the scopes that an interrupt left open inside it."""
        stack = self._stack
        if stack and stack[-1].module is module:
            self._close_innermost()
            return
        while any(scope.module is module for scope in stack):
            if self._close_innermost().module is module:
                break

    def _close_innermost(self) -> Scope:
        scope = self._stack.pop()
        if scope.children is not None:
            scope.children.frames.remove(scope.frame)
        if not self._stack:
            _remove_mode(self)
            CHECKPOINTS.leave(self.bind_here)
        return scope

    def bind_here(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function bound to the scope that is open now, also for later runs."""
        now = self._stack[-1]
        counts = Counter(now.counts)

        def run(*args: Any, **kwargs: Any) -> Any:
            own = Counter(counts)
            self.open(Scope(now.path, now.module, own, sys._getframe(), now.operators))
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
        operator, in_place = operator_name(function)
        if self.operators_of is not None:
            stack = self._stack
            reachable = stack[-1].reachable if stack else frozenset()
            if operator not in reachable and not (reachable and has_parts(function)):
                return function(*args, **kwargs)
        in_place = in_place or bool(kwargs.get("inplace"))
        ordered, rest = operands_first(operator, args, kwargs)
        operands = {} if in_place and operator in RESHAPING else operands_of(operator, ordered)
        parts = parts_of(function, args, kwargs)
        relevant = bool(operands) or parts is not None
        if relevant:
            self.close_interrupted()
        scope = self._stack[-1] if relevant and self._stack else None
        if scope is not None and scope.operators is not None and not scope.operators:
            scope = None
        if scope is not None and _in_autograd_function(scope.frame):
            self.opaque.add(scope.path)
            scope = None
        site = call_site(sys._getframe(1)) if scope is not None else ""
        if scope is None or not site:
            return function(*args, **kwargs)
        if parts is not None and self.decomposes(scope, site):
            with self:
                return parts()
        if not operands:
            return function(*args, **kwargs)
        call = Call(operator, site, scope.counts[operator, site])
        scope.counts[operator, site] += 1
        clone = in_place and torch.is_grad_enabled()  # the backward pass reads the input of the quantizer
        new = {
            i: own(x.clone() if clone and x is ordered[0] else x)
            for i, x in operands.items()
            if (own := self.quantizer_of(scope, call, i)) is not None
        }
        if 0 in new and in_place:
            function, rest = out_of_place(function, operator, rest)
            return overwrite(ordered[0], call_with(function, operator, ordered, rest, new))
        return call_with(function, operator, ordered, rest, new) if new else function(*args, **kwargs)


def _in_autograd_function(frame: FrameType) -> bool:
    """Whether an autograd function runs inside a frame: in an exported graph it is one node for all that it calls."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not frame:
        if (here.f_code.co_filename, here.f_code.co_name) == AUTOGRAD_APPLY:
            return True
        here = here.f_back
    return False


def _remove_mode(mode: TorchFunctionMode) -> None:
    """Removes a mode from the thread's stack, also from below modes that were entered since."""
    above = []
    while mode in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
        if (top := _pop_mode()) is mode:  # type: ignore[no-untyped-call]
            break
        above.append(top)
    for other in reversed(above):
        _push_mode(other)  # type: ignore[no-untyped-call]


class OpenScope:
    """The hook that opens a module's scope."""

    def __init__(self, scopes: Scopes, path: str) -> None:
        self.scopes, self.path = scopes, path

    def __call__(self, module: nn.Module, args: Any) -> Any:
        """Called before the forward; returns the forward's arguments if one of them is quantized, else None."""
        if torch.compiler.is_dynamo_compiling():
            _refuse()
        operators = None if self.scopes.operators_of is None else self.scopes.operators_of(module)
        counts = NO_COUNTS if operators is not None and not operators else Counter()
        scope = Scope(self.path, module, counts, sys._getframe(1), operators)
        self.scopes.open(scope)
        if operators is not None and ENTRY.operator not in operators:
            return None
        new = {
            i: own(x)
            for i, x in quantizable_tensors(args).items()
            if (own := self.scopes.quantizer_of(scope, ENTRY, i)) is not None
        }
        return tuple(new.get(i, x) for i, x in enumerate(args)) if new else None

    def close_interrupted(self) -> None:
        """See `Scopes.close_interrupted`."""
        self.scopes.close_interrupted()


class CloseScope:
    """The hook that closes a module's scope, also if the forward raised."""

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Called after the forward."""
        if not torch.compiler.is_dynamo_compiling():
            self.scopes.close(module)


class HookCopy:
    """Adds the hooks to a copy of a GraphModule: fx copies these modules without hooks, and then calls this."""

    def __init__(self, scopes: Scopes, path: str) -> None:
        self.scopes, self.path = scopes, path

    def __call__(self, module: fx.GraphModule) -> None:
        """Called with the copied module, which has a copy of this hook."""
        own = next(hook for hook in module._deepcopy_hooks if isinstance(hook, HookCopy))
        _add_hooks(module, own.scopes, own.path)


def attach(model: nn.Module, scopes: Scopes) -> None:
    """Adds the hooks that open these scopes to every module of a model, and removes those of other scopes. Scripted
    modules get none: their calls are not visible."""
    detach(model)
    for path, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule) and not _needs_no_scope(module, scopes):
            _add_hooks(module, scopes, path)
        if isinstance(module, fx.GraphModule):
            module._register_deepcopy_hook(HookCopy(scopes, path))


def attach_to(module: nn.Module, scopes: Scopes, path: str) -> None:
    """Adds the hooks to one module of a model that has these scopes, unless the module has them."""
    if not any(isinstance(hook, OpenScope) for hook in module._forward_pre_hooks.values()):
        _add_hooks(module, scopes, path)


def _needs_no_scope(module: nn.Module, scopes: Scopes) -> bool:
    """Whether a module can run in the scope of the module that calls it: it is a quantizer, or its forward is torch's
    or a library's and runs no other module. The sites of its calls are in that code, and so are no sites of the
    caller's calls."""
    if scopes.operators_of is None or scopes.operators_of(module):
        return False
    if isinstance(module, Quantizer):
        return True
    if type(module).forward is nn.Module.forward or "forward" in vars(module):
        return False
    if type(module).forward is nn.Sequential.forward:
        return True  # it calls no operator
    alone = all(isinstance(child, Quantizer) for child in module.children())
    return alone and is_library_code(type(module).forward.__code__)


def _add_hooks(module: nn.Module, scopes: Scopes, path: str) -> None:
    module.register_forward_pre_hook(OpenScope(scopes, path))
    module.register_forward_hook(CloseScope(scopes), always_call=True)


def detach(model: nn.Module) -> None:
    """Removes the hooks."""
    close_interrupted_scopes(model)
    for module in model.modules():
        restore_children(module)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [n for n, hook in hooks.items() if isinstance(hook, OpenScope | CloseScope)]:
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)
        if isinstance(module, fx.GraphModule):
            module._deepcopy_hooks = [hook for hook in module._deepcopy_hooks if not isinstance(hook, HookCopy)]


def scopes_of(model: nn.Module) -> Scopes | None:
    """The scopes that a model's hooks open; None without hooks."""
    found = (hook for hook in model._forward_pre_hooks.values() if isinstance(hook, OpenScope))
    return next((hook.scopes for hook in found), None)
