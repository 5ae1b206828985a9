"""Quantizers at places of functional operators, and `QuantAdd` and `QuantConcat` for those who write them by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from ...errors import TorchError
from ..quantizer.quantizer import QuantDescriptor, Quantizer, adopt, made, parent
from .functional import HOLDER, Call, Place
from .scopes import Scope, Scopes, attach, attached, detach

ADD_INPUTS = ("both", "skip", "downsample")


class Operands(nn.Module):
    """The quantizers of one call: `_input0_quantizer`, `_input1_quantizer` and so on.

    Attributes:
        call: which call it is.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


class Functional(nn.Module):
    """The quantizers of all functional calls of one module, by operator and number: `add_0`, `cat_0`, `cat_1`."""

    def operands(self, call: Call) -> Operands | None:
        """The quantizers of a call, where it has any."""
        found = (m for m in self.children() if isinstance(m, Operands) and m.call == call)
        return next(found, None)

    def add(self, call: Call) -> Operands:
        """Room for the quantizers of a call."""
        known = self.operands(call)
        if known is not None:
            return known
        number = sum(name.rpartition("_")[0] == call.operator for name, _ in self.named_children())
        new = Operands(call)
        self.add_module(f"{call.operator}_{number}", new)
        return new


def placed(scope: Scope, call: Call, operand: int) -> Callable[[Tensor], Tensor] | None:
    """The quantizer that stands at an operand."""
    holder = None if scope.children is None else scope.children.get(HOLDER)
    operands = holder.operands(call) if isinstance(holder, Functional) else None
    return None if operands is None else operands._modules.get(f"_input{operand}_quantizer")


def parted(scope: Scope, where: str) -> bool:
    """Whether a quantizer stands at a call of this place, or at a part of it."""
    holder = None if scope.children is None else scope.children.get(HOLDER)
    found = holder.children() if isinstance(holder, Functional) else ()
    return any(isinstance(m, Operands) and m.call.where == where for m in found)


def place(model: nn.Module, at: Place, quantizer: Quantizer | None = None) -> str:
    """Puts a quantizer at a place; returns its path.

    Args:
        model: the model that the place's path starts from.
        quantizer: the one to put there; None: a new one.
    """
    if attached(model) is None:
        attach(model, Scopes(placed, parted))
    module = model.get_submodule(at.module)
    holder = getattr(module, HOLDER, None)
    if not isinstance(holder, Functional):
        holder = Functional()
        module.add_module(HOLDER, holder)
    operands = holder.add(at.call)
    name = f"_input{at.operand}_quantizer"
    if name not in operands._modules:
        operands.add_module(name, made(QuantDescriptor()) if quantizer is None else quantizer)
    inside = next(n for n, m in holder.named_children() if m is operands)
    return f"{at.module}.{HOLDER}.{inside}.{name}".lstrip(".")


def places(model: nn.Module) -> dict[str, Place]:
    """Where the functional quantizers of a model stand, by path."""
    adopt(model)
    found: dict[str, Place] = {}
    for path, module in model.named_modules():
        holder = getattr(module, HOLDER, None)
        for name, operands in holder.named_children() if isinstance(holder, Functional) else ():
            assert isinstance(operands, Operands)
            for child in operands._modules:
                full = f"{path}.{HOLDER}.{name}.{child}".lstrip(".")
                found[full] = Place(path, operands.call, int(child.removeprefix("_input").removesuffix("_quantizer")))
    return found


def remove(model: nn.Module, kept: Collection[str] = ()) -> None:
    """Takes functional quantizers away again, but for those at these paths."""
    for path in [path for path in places(model) if path not in kept]:
        operands, name = parent(model, path)
        del operands._modules[name]
    for module in list(model.modules()):
        holder = getattr(module, HOLDER, None)
        if isinstance(holder, Functional):
            for name in [n for n, call in holder.named_children() if not call._modules]:
                del holder._modules[name]
            if not holder._modules:
                del module._modules[HOLDER]
    if not places(model):
        detach(model)


class QuantAdd(nn.Module):
    """An addition with quantized inputs.

    Args:
        inputs: "both"; "skip", the second alone, so that the first fuses with its convolution; "downsample", both
            where the block has a downsampling convolution on its skip and the skip alone where it has none.
        downsample: whether the block has one.
        descriptor: of the quantizers.

    Raises:
        TorchError: `inputs` is none of these.
    """

    def __init__(
        self, inputs: str = "skip", *, downsample: bool = False, descriptor: QuantDescriptor | None = None
    ) -> None:
        super().__init__()
        if inputs not in ADD_INPUTS:
            raise TorchError(f"QuantAdd has no inputs={inputs!r}: write {', '.join(ADD_INPUTS)}")
        both = inputs == "both" or (inputs == "downsample" and downsample)
        descriptor = descriptor or QuantDescriptor()
        self._input0_quantizer = made(descriptor) if both else nn.Identity()
        self._input1_quantizer = made(descriptor)

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        """Two tensors of one shape → their sum; `skip` is the one that passed no convolution of the block."""
        out: Tensor = self._input0_quantizer(branch) + self._input1_quantizer(skip)
        return out


class QuantConcat(nn.Module):
    """A concatenation whose inputs, however many, share one quantizer, as TensorRT needs it."""

    def __init__(self, dim: int = 1, *, descriptor: QuantDescriptor | None = None) -> None:
        super().__init__()
        self.dim = dim
        self._input_quantizer = made(descriptor or QuantDescriptor())

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors that differ in size along `dim` alone → one."""
        return torch.cat([self._input_quantizer(x) for x in tensors], self.dim)
