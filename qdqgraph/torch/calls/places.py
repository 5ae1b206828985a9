"""Quantizers at operands of functional calls, and `QuantAdd` and `QuantConcat` to write them by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from ...errors import TorchError
from ...graph.selectors import HOLDER
from ..quantizer.quantizer import (
    QuantDescriptor,
    Quantizer,
    configured_quantizer,
    convert_quantizers,
    new_quantizer,
    parent_module,
)
from .functional import Call, Place
from .scopes import Scope, Scopes, attach, attach_to, detach, scopes_of

ADD_INPUTS = ("both", "skip", "downsample")


class CallQuantizers(nn.Module):
    """The quantizers of one call: `_input0_quantizer`, `_input1_quantizer` and so on.

    Attributes:
        call: the call.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


class FunctionalQuantizers(nn.Module):
    """The quantizers of all functional calls of one module, by operator and number: `add_0`, `cat_0`, `cat_1`."""

    def find(self, call: Call) -> CallQuantizers | None:
        """The quantizers of a call; None if it has none."""
        for module in self._modules.values():
            if isinstance(module, CallQuantizers) and module.call == call:
                return module
        return None

    def find_or_add(self, call: Call) -> CallQuantizers:
        """The quantizers of a call; a new, empty module if it has none."""
        known = self.find(call)
        if known is not None:
            return known
        new = CallQuantizers(call)
        free = (name for n in itertools.count() if (name := f"{call.operator}_{n}") not in self._modules)
        self.add_module(next(free), new)
        return new


def quantizer_at(scope: Scope, call: Call, operand: int) -> Callable[[Tensor], Tensor] | None:
    """The quantizer of an operand of a call in an open scope; None if there is none."""
    holder = None if scope.children is None else scope.children.get(HOLDER)
    operands = holder.find(call) if isinstance(holder, FunctionalQuantizers) else None
    return None if operands is None else operands._modules.get(f"_input{operand}_quantizer")


def has_quantizer_at(scope: Scope, site: str) -> bool:
    """Whether a call at this site, or a part of one, has a quantizer."""
    holder = None if scope.children is None else scope.children.get(HOLDER)
    found = holder._modules.values() if isinstance(holder, FunctionalQuantizers) else ()
    return any(isinstance(m, CallQuantizers) and m.call.site == site for m in found)


def operators_with_quantizers(module: nn.Module) -> frozenset[str]:
    """The operators of a module's own calls that have quantizers."""
    holder = vars(module)["_modules"].get(HOLDER)
    if not isinstance(holder, FunctionalQuantizers):
        return frozenset()
    return frozenset(m.call.operator for m in holder._modules.values() if isinstance(m, CallQuantizers))


def scopes_for_quantizers() -> Scopes:
    """Scopes that run the quantizers of calls."""
    return Scopes(quantizer_at, has_quantizer_at, operators_with_quantizers)


def insert_quantizer(model: nn.Module, at: Place, quantizer: Quantizer | None = None) -> str:
    """Inserts a quantizer at a place, unless it already has one; returns the path of the place's quantizer.

    Args:
        model: the model that the place's path starts from.
        quantizer: None: a new one, of the backend of the model, as its configuration quantizes inputs.
    """
    scopes = scopes_of(model)
    if scopes is None:
        scopes = scopes_for_quantizers()
        attach(model, scopes)
    module = model.get_submodule(at.module)
    attach_to(module, scopes, at.module)
    holder = getattr(module, HOLDER, None)
    if not isinstance(holder, FunctionalQuantizers):
        holder = FunctionalQuantizers()
        module.add_module(HOLDER, holder)
    operands = holder.find_or_add(at.call)
    name = f"_input{at.operand}_quantizer"
    if name not in operands._modules:
        operands.add_module(name, configured_quantizer(model) if quantizer is None else quantizer)
    inside = next(n for n, m in holder.named_children() if m is operands)
    return f"{at.module}.{HOLDER}.{inside}.{name}".lstrip(".")


def places(model: nn.Module) -> dict[str, Place]:
    """The places of a model's functional quantizers, by the quantizers' paths."""
    convert_quantizers(model)
    found: dict[str, Place] = {}
    for path, module in model.named_modules():
        holder = getattr(module, HOLDER, None)
        for name, operands in holder.named_children() if isinstance(holder, FunctionalQuantizers) else ():
            assert isinstance(operands, CallQuantizers)
            for child in operands._modules:
                full = f"{path}.{HOLDER}.{name}.{child}".lstrip(".")
                found[full] = Place(path, operands.call, int(child.removeprefix("_input").removesuffix("_quantizer")))
    return found


def remove_quantizers(model: nn.Module, kept: Collection[str] = ()) -> None:
    """Removes a model's functional quantizers, except those at the paths of `kept`."""
    for path in [path for path in places(model) if path not in kept]:
        operands, name = parent_module(model, path)
        del operands._modules[name]
    for module in list(model.modules()):
        holder = getattr(module, HOLDER, None)
        if isinstance(holder, FunctionalQuantizers):
            for name in [n for n, call in holder.named_children() if not call._modules]:
                del holder._modules[name]
            if not holder._modules:
                del module._modules[HOLDER]
    if not places(model):
        detach(model)


class QuantAdd(nn.Module):
    """An addition with quantized inputs.

    Args:
        inputs: "both"; "skip", only the second, so that the first fuses with its convolution; "downsample", both if
            the block has a downsampling convolution on its skip, and only the skip otherwise.
        downsample: whether the block has one.
        descriptor: of the quantizers.

    Raises:
        TorchError: `inputs` has another value.
    """

    def __init__(
        self, inputs: str = "skip", *, downsample: bool = False, descriptor: QuantDescriptor | None = None
    ) -> None:
        super().__init__()
        if inputs not in ADD_INPUTS:
            raise TorchError(f"QuantAdd has no inputs={inputs!r}: write {', '.join(ADD_INPUTS)}")
        both = inputs == "both" or (inputs == "downsample" and downsample)
        descriptor = descriptor or QuantDescriptor()
        self._input0_quantizer = new_quantizer(descriptor) if both else nn.Identity()
        self._input1_quantizer = new_quantizer(descriptor)

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        """Two tensors of one shape → their sum; `skip` is not the output of a convolution of the block's main path."""
        out: Tensor = self._input0_quantizer(branch) + self._input1_quantizer(skip)
        return out


class QuantConcat(nn.Module):
    """A concatenation whose inputs, however many, share one quantizer, as TensorRT requires."""

    def __init__(self, dim: int = 1, *, descriptor: QuantDescriptor | None = None) -> None:
        super().__init__()
        self.dim = dim
        self._input_quantizer = new_quantizer(descriptor or QuantDescriptor())

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors that differ in size only along `dim` → their concatenation."""
        return torch.cat([self._input_quantizer(x) for x in tensors], self.dim)
