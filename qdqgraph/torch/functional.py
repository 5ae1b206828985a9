"""Functional operators: finds the places where a tensor enters one, and puts quantizers there without new code.

A residual add, `torch.cat`, `F.interpolate` or a MaxPool has no module of its own that could hold a quantizer. So hooks
on every module open a scope (`Scopes`), in which torch's function mode sees each call. A call is known by the module
whose forward runs, its place in the source, and how often that place ran before in this forward: branches that do not
run move no other call, and a loop's passes are told apart. Only those calls that hold a quantizer are changed.

Checkpointed branches run a second time in the backward pass, outside of any module's forward: while a scope is open,
what is checkpointed is bound to its module.
"""

from __future__ import annotations

import dis
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HOLDER = "_functional"
"""The child of a module that holds the quantizers of its calls."""
BOTH = ("add", "mul", "sub", "div", "matmul", "bmm", "maximum", "minimum")
"""Operators of two tensors."""
LISTS = ("cat", "concat", "concatenate", "stack")
"""Operators of a list of tensors."""
FIRST = (
    *("interpolate", "upsample", "max_pool1d", "max_pool2d", "max_pool3d", "mean"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "getitem", "narrow", "index_select", "select"),
    *("transpose", "permute", "swapaxes", "movedim", "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze"),
    *("pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat", "expand", "tile", "roll", "contiguous"),
    *("relu", "relu6", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "leaky_relu", "elu", "mish"),
    *("softplus", "clamp", "hardtanh", "batch_norm", "neg", "abs", "exp", "sqrt"),
)
"""Operators of one data tensor; what follows it says how."""
LIBRARY = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
APPLIED = (torch.autograd.function.__file__, "apply")
"""Where an autograd function begins, by file and name of the code."""
SCOPED = ((nn.modules.module.__file__, "_call_impl"), (__file__, "run"))
"""Where a scope begins: a module's forward, and what is checkpointed."""
PLUMBING = ("functional.py", "_tensor.py", "overrides.py", "_jit_internal.py", "_tensor_docs.py")
"""Files of torch between a call and the code that wrote it."""


def operator_of(function: Callable[..., Any]) -> tuple[str, bool]:
    """The plain name of a torch function, "add" for `Tensor.add_` and `torch.add`, and whether it changes its first
    operand."""
    name = getattr(function, "__name__", "")
    if name.startswith("__") and name.endswith("__"):
        inner = name[2:-2]
        plain = inner[1:] if inner[:1] in ("i", "r") and inner[1:] in (*BOTH, "truediv") else inner
        return {"truediv": "div"}.get(plain, plain), plain != inner and inner[0] == "i"
    return (name, False) if name.startswith("_") else (name.rstrip("_"), name.endswith("_"))


@dataclass(frozen=True)
class Call:
    """One call of an operator: where it stands in the source, and how often that place ran before in this forward."""

    operator: str
    where: str
    count: int

    def __str__(self) -> str:
        return f"{self.operator} at {self.where}" + (f", pass {self.count + 1}" if self.count else "")


@dataclass(frozen=True)
class Place:
    """One operand of a call in a module's forward: where a quantizer stands or could stand."""

    module: str
    call: Call
    operand: int

    def __str__(self) -> str:
        return f"{self.module or 'the model'}: input {self.operand} of {self.call}"


Apply = Callable[["Scope", Call, int], Callable[[Tensor], Tensor] | None]
"""What to do with an operand: open scope, call, index → a function of the tensor; None leaves it as it is."""


@dataclass
class Scope:
    """A module whose forward runs: its path, the module itself, and how often each call ran so far.

    Attributes:
        children: the module's children with the quantizers of its calls. A forward that runs all its children must not
            run these: while the scope is open, they are out of the module's sight.
    """

    path: str
    module: nn.Module
    counts: Counter[tuple[str, str]]
    children: dict[str, nn.Module | None] = field(default_factory=dict)

    def hide(self, outer: Iterable[Scope]) -> None:
        """Takes the quantizers out of the module's sight; a scope of the module that is open already has done so."""
        around = next((scope for scope in outer if scope.attributes is self.attributes), None)
        self.children = self.attributes["_modules"] if around is None else around.children
        if around is None and HOLDER in self.children:
            self.attributes["_modules"] = {name: child for name, child in self.children.items() if name != HOLDER}

    def show(self, outer: Iterable[Scope]) -> None:
        """Gives them back, beside what the forward itself set."""
        if not any(scope.attributes is self.attributes for scope in outer):
            self.children.update(self.attributes["_modules"])
            self.attributes["_modules"] = self.children

    @property
    def attributes(self) -> dict[str, Any]:
        """The module's own; torch.export may run a stand-in for the module, which shares them."""
        return self.module.__dict__


class Scopes(TorchFunctionMode):
    """The open scopes of one model, and the mode that sees calls inside them."""

    def __init__(self, apply: Apply) -> None:
        super().__init__()
        self.apply = apply
        self._stack: list[Scope] = []
        self._checkpoints: Any = None

    def open(self, scope: Scope) -> None:
        """A module's forward begins."""
        if not self._stack:
            self._checkpoints = _bound_checkpoints(self)
            self._checkpoints.__enter__()
            self.__enter__()  # type: ignore[no-untyped-call]
        scope.hide(self._stack)
        self._stack.append(scope)

    def close(self) -> None:
        """It ends."""
        self._stack.pop().show(self._stack)
        if not self._stack:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._checkpoints.__exit__(None, None, None)
            self._checkpoints = None

    def again(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, in the scope that is open now, whenever it runs."""
        now = self._stack[-1]
        counts = Counter(now.counts)

        def run(*args: Any, **kwargs: Any) -> Any:
            own = Counter(counts)
            self.open(Scope(now.path, now.module, own))
            try:
                return function(*args, **kwargs)
            finally:
                self.close()
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
        operands = _operands(operator, args) if self._stack else {}
        where, assigned = _where(sys._getframe(1)) if operands else ("", False)
        if in_place and not assigned:
            operands.pop(0, None)  # the caller goes on with the tensor itself: another cannot stand in for it
        if not where or not operands:
            return function(*args, **kwargs)
        scope = self._stack[-1]
        call = Call(operator, where, scope.counts[operator, where])
        scope.counts[operator, where] += 1
        new = {i: made(x) for i, x in operands.items() if (made := self.apply(scope, call, i)) is not None}
        if 0 in new and in_place:
            function = getattr(torch, operator)  # a += b becomes a = a + b
        return _called(function, operator, args, kwargs, new) if new else function(*args, **kwargs)


def _operands(operator: str, args: Any) -> dict[int, Tensor]:
    """The operands that could be quantized: floating-point tensors, by index."""
    if not args:
        return {}
    if operator in LISTS:
        found = dict(enumerate(args[0])) if isinstance(args[0], list | tuple) else {}
    elif operator in BOTH:
        found = dict(enumerate(args[:2]))
    elif operator in FIRST:
        found = {0: args[0]}
    else:
        return {}
    return {i: x for i, x in found.items() if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 0}


def _called(
    function: Callable[..., Any], operator: str, args: Any, kwargs: Mapping[str, Any], new: Mapping[int, Tensor]
) -> Any:
    """The call with other operands."""
    if operator in LISTS:
        return function([new.get(i, x) for i, x in enumerate(args[0])], *args[1:], **kwargs)
    return function(*(new.get(i, x) for i, x in enumerate(args)), **kwargs)


def _where(frame: FrameType | None) -> tuple[str, bool]:
    """Function, line within it and column of the code that made a call, "" for the quantization library's own; and
    whether that code is an operator (`a += b`), so that it takes up the result."""
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if "pytorch_quantization" in file:
            return "", False
        ours = file.startswith(LIBRARY[1])
        if not ours and not (file.startswith(LIBRARY[0]) and file.endswith(PLUMBING)):
            return ("", False) if _hidden(frame) else _written(code, frame.f_lasti)
        frame = frame.f_back
    return "", False


def _hidden(frame: FrameType | None) -> bool:
    """Whether code runs inside an autograd function, which stands in an exported graph for all that it calls."""
    while frame is not None:
        at = frame.f_code.co_filename, frame.f_code.co_name
        if at == APPLIED:
            return True
        if at in SCOPED:
            return False
        frame = frame.f_back
    return False


@lru_cache(maxsize=65536)
def _written(code: CodeType, instruction: int) -> tuple[str, bool]:
    line, _, column, _ = list(code.co_positions())[instruction // 2]
    place = f"{code.co_qualname}:{(line or code.co_firstlineno) - code.co_firstlineno}:{column or 0}"
    return place, dis.opname[code.co_code[instruction]] == "BINARY_OP"


@contextmanager
def _bound_checkpoints(scopes: Scopes) -> Iterator[None]:
    """Binds what torch.utils.checkpoint runs again in the backward pass to the scope where it ran first."""
    here: Any = checkpointing
    reentrant, generator = here.CheckpointFunction, here._checkpoint_without_reentrant_generator

    class Bound:
        @staticmethod
        def apply(function: Callable[..., Any], *args: Any) -> Any:
            return reentrant.apply(scopes.again(function), *args)

    def bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return generator(scopes.again(function), *args, **kwargs)

    here.CheckpointFunction = Bound
    here._checkpoint_without_reentrant_generator = bound
    try:
        yield
    finally:
        here.CheckpointFunction = reentrant
        here._checkpoint_without_reentrant_generator = generator


class Enter:
    """The hook that opens a module's scope."""

    def __init__(self, scopes: Scopes, path: str) -> None:
        self.scopes, self.path = scopes, path

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Called in front of the forward."""
        self.scopes.open(Scope(self.path, module, Counter()))


class Leave:
    """The hook that closes it, also where the forward raised."""

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Called behind the forward."""
        self.scopes.close()


def attach(model: nn.Module, scopes: Scopes) -> None:
    """Lets every module of a model open its scope, and no other than this."""
    detach(model)
    for path, module in model.named_modules():
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
