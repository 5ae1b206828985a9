"""Modules of classes that a quantization library does not know, quantized inside their own forward: their computed
weights, padding, norms and activations stay as they are, and only the call of the convolution gets quantized operands.

A class that is made for each such class wraps its forward in a mode of torch, which intercepts that call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

OPERATORS = {
    **{f"Conv{n}d": f"conv{n}d" for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": f"conv_transpose{n}d" for n in (1, 2, 3)},
    "Linear": "linear",
    **{f"AvgPool{n}d": f"avg_pool{n}d" for n in (1, 2, 3)},
    **{f"AdaptiveAvgPool{n}d": f"adaptive_avg_pool{n}d" for n in (1, 2, 3)},
}
"""The function that each class calls, by the name of the class in torch.nn."""
WEIGHTED = frozenset(name for name in OPERATORS if "Pool" not in name)
"""The classes whose function has a weight."""
NAMES = {
    operator: ("input", "weight", "bias") if name in WEIGHTED else ("input",) for name, operator in OPERATORS.items()
}
"""The first parameters of each function, by its name."""
INPUT, WEIGHT = "input_quantizer", "weight_quantizer"
"""The names of the quantizers; pytorch-quantization's have an underscore before them."""


class TreatedModule(nn.Module):
    """Derived together with the module's own class; its forward runs that class's forward.

    Attributes:
        treated_as: the name of the class in torch.nn that it is treated as.
        weight_shape: the shape of the weight of the calls to quantize; None: of any shape.
        computes_weight: whether that weight is another tensor than the module's own.
        keeps_weight: keep the next weight as the `constant_weight`.
        constant_weight: the weight during an export, if the module computes it.
    """

    treated_as: ClassVar[str]
    weight_shape: torch.Size | None
    computes_weight: bool
    keeps_weight: bool = False
    constant_weight: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The forward of the module's own class."""
        with _QuantizedCalls(self):
            return super().forward(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles name the module's own class."""
        return _empty, (type(self).__mro__[2], self.treated_as), self.__dict__


def _empty(kind: type[nn.Module], treated_as: str) -> nn.Module:
    made = treated_class(kind, treated_as)
    return made.__new__(made)


def treated_class(kind: type[nn.Module], treated_as: str) -> type[TreatedModule]:
    """The class of a module of this class that is treated as a class in torch.nn: the same at each call."""
    key: Any = kind
    made: type[TreatedModule] = _made_class(key, treated_as)
    return made


@cache
def _made_class(kind: Any, treated_as: str) -> Any:
    return type(f"Quant{kind.__name__}", (TreatedModule, kind), {"treated_as": treated_as, "__module__": __name__})


@dataclass(frozen=True)
class Treatment:
    """How a module is quantized in its own forward.

    Attributes:
        treated_as: the name of a class in torch.nn.
        weight_shape, computes_weight: as in `TreatedModule`.
    """

    treated_as: str
    weight_shape: torch.Size | None = None
    computes_weight: bool = True

    def apply(self, module: nn.Module, children: Mapping[str, nn.Module]) -> None:
        """Converts a module, in place, with the quantizers of these names."""
        own: Any = module
        own.__class__ = treated_class(type(module), self.treated_as)
        own.weight_shape, own.computes_weight = self.weight_shape, self.computes_weight
        for name, child in children.items():
            module.add_module(name, child)


def untreat(module: TreatedModule) -> None:
    """Undoes `Treatment.apply`, except for the quantizers."""
    module.__class__ = type(module).__mro__[2]
    for name in ("weight_shape", "computes_weight"):
        module.__dict__.pop(name, None)


class _CallMode(TorchFunctionMode):
    """A mode that sees the calls of one operator: `on_call(function, args, kwargs)` computes each."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.operator = operator

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """One call."""
        kwargs = dict(kwargs or {})
        if getattr(function, "__name__", "") != self.operator:
            return function(*args, **kwargs)
        names = NAMES[self.operator][: len(args)]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        return self.on_call(function, args[len(names) :], given)

    def on_call(self, function: Callable[..., Any], rest: Any, given: dict[str, Any]) -> Any:
        """A call of the operator: its first three arguments by name with its keyword arguments, and the others."""
        raise NotImplementedError


def _call(function: Callable[..., Any], rest: Any, given: Mapping[str, Any]) -> Any:
    """Calls the function; some functions of torch have no names for their first arguments."""
    kwargs = dict(given)
    first = []
    for name in ("input", "weight", "bias"):
        if name not in kwargs:
            break
        first.append(kwargs.pop(name))
    return function(*first, *rest, **kwargs)


class _QuantizedCalls(_CallMode):
    """Quantizes the operands of a module's calls of its operator."""

    def __init__(self, module: TreatedModule) -> None:
        super().__init__(OPERATORS[module.treated_as])
        self.module = module

    def on_call(self, function: Callable[..., Any], rest: Any, given: dict[str, Any]) -> Any:
        """Calls with a weight of another shape are those of other modules."""
        module = self.module
        weight = given.get("weight")
        if module.weight_shape is not None and (weight is None or weight.shape != module.weight_shape):
            return _call(function, rest, given)
        children = module._modules
        for name, quantizer_name in (("input", INPUT), ("weight", WEIGHT)):
            quantizer = children.get(f"_{quantizer_name}") or children.get(quantizer_name)
            if name == "weight" and module.keeps_weight:
                module.constant_weight = given[name].detach().clone()
            if name == "weight" and module.constant_weight is not None:
                given[name] = module.constant_weight
            if quantizer is not None and name in given:
                given[name] = quantizer(given[name])
        return _call(function, rest, given)


class CallRecorder(_CallMode):
    """Records the calls of an operator.

    Attributes:
        weights: by call; None for a call without one.
        outside: whether a call ran inside another module than the one whose forward is recorded.
        depth: how many other modules run now.
    """

    def __init__(self, operator: str) -> None:
        super().__init__(operator)
        self.weights: list[Tensor | None] = []
        self.outside = False
        self.depth = 0

    def on_call(self, function: Callable[..., Any], rest: Any, given: dict[str, Any]) -> Any:
        """Records a call."""
        weight = given.get("weight")
        self.weights.append(weight if isinstance(weight, Tensor) else None)
        self.outside = self.outside or self.depth > 0
        return _call(function, rest, given)

    def enter(self, *_: Any) -> None:
        """The hook before another module."""
        self.depth += 1

    def leave(self, *_: Any) -> None:
        """The hook after it."""
        self.depth -= 1


@contextmanager
def constant_computed_weights(model: nn.Module, run: Callable[[], Any]) -> Iterator[None]:
    """Replaces the weights that treated modules compute in their forward with their values in a run of the model, until
    the block ends: in a graph a computed weight would be an activation."""
    found = [m for m in model.modules() if isinstance(m, TreatedModule) and m.computes_weight]
    try:
        if found:
            for module in found:
                module.keeps_weight = True
            with torch.no_grad():
                run()
            for module in found:
                module.keeps_weight = False
        yield
    finally:
        for module in found:
            module.keeps_weight, module.constant_weight = False, None
