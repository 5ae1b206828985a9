"""Which modules are treated as a class of torch.nn that their own class derives from, or that a configuration names.

A trial decides: a copy of the module runs alone on two random inputs, and the weights of its convolution are recorded.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import is_parametrized

from ...errors import TorchError, guess
from ..calls.example import call_model
from ..calls.treated import OPERATORS, WEIGHTED, CallRecorder, Treatment
from ..quantizer.base import Quantizer
from ..quantizer.quantizer import isolated_run

CLASSES: dict[str, type[nn.Module]] = {name: getattr(torch.nn.modules, name) for name in OPERATORS}
"""The classes that a module can be treated as; those in torch.nn.modules: the library patches those in torch.nn."""
EDGE = 32
"""Height and width of the input of a trial, unless the kernel is larger."""
CHANNELS = 8
"""Channels of that input for a pool."""


class UntreatableError(TorchError):
    """A module's forward does not allow that it is treated as another class."""


def treatments(
    model: nn.Module, treat: Mapping[str, str], extended: Mapping[type[nn.Module], str]
) -> tuple[dict[str, Treatment], dict[str, str]]:
    """The modules to treat, and the subclasses that their forward does not allow to treat, with the reason, by path.

    Args:
        treat: classes in torch.nn by names of the classes of modules, with or without their Python module.
        extended: the same for classes that the user added to the map of the library.

    Raises:
        TorchError: no module has such a class, or its forward makes no such call that could be quantized.
    """
    found: dict[str, Treatment] = {}
    left: dict[str, str] = {}
    used: set[str] = set()
    for path, module in model.named_modules():
        kind = type(module)
        asked = sorted(class_names(module) & treat.keys())
        used.update(asked)
        name = treat[asked[0]] if asked else extended.get(kind) or base_class(module)
        if name is None or any(isinstance(child, Quantizer) for child in module.children()):
            continue
        try:
            found[path] = try_as(module, name)
        except UntreatableError as error:
            if asked or kind in extended:
                raise TorchError(f"treat: {path}, a {kind.__name__}, as {name}: {error}") from error
            left[path] = str(error)
    missing = [name for name in treat if name not in used]
    if missing:
        known = {type(m).__name__ for m in model.modules()}
        raise TorchError(f"treat: no module has the class {missing[0]!r}{guess(missing[0], known, cutoff=0.4)}")
    return found, left


def class_names(module: nn.Module) -> set[str]:
    """The names of a module's class, with and without its Python module."""
    kind = type(module)
    return {kind.__name__, f"{kind.__module__}.{kind.__name__}", f"{kind.__module__}.{kind.__qualname__}"}


def base_class(module: nn.Module) -> str | None:
    """The name of the class in torch.nn that a module's class derives from, if its own forward may call that class's
    function; None for the class itself, and for classes that torch marks as not quantizable."""
    kind = type(module)
    if kind in CLASSES.values() or is_parametrized(module) or isinstance(module, NonDynamicallyQuantizableLinear):
        return None
    return next((name for base in kind.__mro__ for name, own in CLASSES.items() if base is own), None)


def try_as(module: nn.Module, name: str) -> Treatment:
    """How a module is treated as a class in torch.nn, after a trial.

    A module that cannot run alone, such as one that needs more than one input, is treated if its class does not derive
    from another class in torch.nn: then the configuration asked for it.

    Raises:
        UntreatableError: its forward makes no call that could be quantized, or calls with several weights, with weights
            that depend on the input, or inside another module.
    """
    if "forward" in vars(module):
        raise UntreatableError("its forward was set on the instance")
    own = getattr(module, "weight", None)
    shape = own.shape if isinstance(own, Tensor) else None
    runs = []
    reason = ""
    for x in _inputs(module, name):
        try:
            runs.append(_record(module, name, x))
        except TorchError as error:
            reason = str(error)
        if len(runs) == 2:
            break
    if len(runs) < 2:
        if base_class(module) is not None:
            raise UntreatableError(f"its forward does not run alone: {reason}")
        return Treatment(name, shape)
    if any(recorder.outside for recorder in runs):
        raise UntreatableError(f"a module inside it calls {OPERATORS[name]}")
    if not all(recorder.weights for recorder in runs):
        raise UntreatableError(f"its forward does not call {OPERATORS[name]}")
    if name not in WEIGHTED:
        return Treatment(name, computes_weight=False)
    first = runs[0].weights[0]
    if first is None or first.dim() != _dimensions(name) or (shape is not None and first.shape != shape):
        found = None if first is None else list(first.shape)
        raise UntreatableError(f"the weight of its {OPERATORS[name]} has shape {found}, not that of its own weight")
    if any(w is None or w.shape != first.shape or not torch.equal(w, first) for r in runs for w in r.weights):
        raise UntreatableError(f"its {OPERATORS[name]} has several weights, or one that depends on the input")
    return Treatment(name, first.shape, not isinstance(first, nn.Parameter))


def _record(module: nn.Module, name: str, x: Tensor) -> CallRecorder:
    """The calls of a copy of the module in eval mode.

    Raises:
        TorchError: the module cannot be copied, or fails on the input.
    """
    try:
        copied = copy.deepcopy(module).eval()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise TorchError(f"it cannot be copied: {error}") from error
    recorder = CallRecorder(OPERATORS[name])
    for child in itertools.islice(copied.modules(), 1, None):
        child.register_forward_pre_hook(recorder.enter)
        child.register_forward_hook(recorder.leave, always_call=True)
    with isolated_run(copied), torch.no_grad(), torch.random.fork_rng(devices=[]), recorder:
        call_model(copied.forward, f"an input {list(x.shape)}", x)
    return recorder


def _dimensions(name: str) -> int:
    return 2 if name == "Linear" else int(name[-2]) + 2


def _inputs(module: Any, name: str) -> Iterator[Tensor]:
    """Random inputs that a module of this kind may accept: two of each shape."""
    like = next(itertools.chain(module.parameters(), module.buffers()), torch.zeros(()))
    if like.is_meta or not like.is_floating_point():
        return
    generator = torch.Generator().manual_seed(0)
    for shape in _shapes(module, name, like):
        for _ in range(2):
            yield torch.rand(shape, generator=generator).to(like.device, like.dtype)


def _shapes(module: Any, name: str, like: Tensor) -> Iterator[tuple[int, ...]]:
    weight = getattr(module, "weight", None)
    weight = weight if isinstance(weight, Tensor) and weight.dim() == _dimensions(name) else None
    if name == "Linear":
        features = getattr(module, "in_features", None) or (None if weight is None else weight.shape[1])
        if features is not None:
            yield from ((1, features), (1, 4, features), (1, 4, 4, features))
        return
    spatial = int(name[-2])
    channels = getattr(module, "in_channels", None)
    if channels is None and weight is not None:
        channels = weight.shape[0] if "Transpose" in name else weight.shape[1] * getattr(module, "groups", 1)
    if channels is None:
        channels = CHANNELS
    kernel = getattr(module, "kernel_size", 1)
    spread = getattr(module, "dilation", 1)
    largest = max(_numbers(kernel)) * max(_numbers(spread))
    yield (2, channels, *[max(EDGE, largest)] * spatial)


def _numbers(value: Any) -> tuple[int, ...]:
    found = value if isinstance(value, tuple | list) else (value,)
    return tuple(x for x in found if isinstance(x, int)) or (1,)
