"""`quantize`: every module that pytorch-quantization has a twin for becomes its twin, in place.

Instances are re-classed: parameters, buffers, hooks, dtype and whatever else an instance carries stay, and the
constructors, which do not know newer arguments of torch, are never called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import Conv1d, Conv2d, Conv3d
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.rnn import PackedSequence

from ...errors import TorchError
from ..calls.places import places, remove
from ..quantizer.choice import chosen
from ..quantizer.quantizer import Quantizer, qnn, quant_modules, quant_rnn
from ..quantizer.wrapped import refuse
from .config import Config, Spec, specs
from .insert import insert


class QuantConv1d(qnn.QuantConv1d, Conv1d):
    """The library's, with every padding mode: its own forward halves circular padding and makes zeros of the others."""

    _quant: Any

    def forward(self, input: Tensor) -> Tensor:
        """As torch's own convolution, on the quantized input and weight."""
        quantized, weight = self._quant(input)
        return self._conv_forward(quantized, weight, self.bias)


class QuantConv2d(qnn.QuantConv2d, Conv2d):
    """See `QuantConv1d`."""

    _quant: Any

    def forward(self, input: Tensor) -> Tensor:
        """As torch's own convolution, on the quantized input and weight."""
        quantized, weight = self._quant(input)
        return self._conv_forward(quantized, weight, self.bias)


class QuantConv3d(qnn.QuantConv3d, Conv3d):
    """See `QuantConv1d`."""

    _quant: Any

    def forward(self, input: Tensor) -> Tensor:
        """As torch's own convolution, on the quantized input and weight."""
        quantized, weight = self._quant(input)
        return self._conv_forward(quantized, weight, self.bias)


class QuantLSTM(qnn.QuantLSTM):
    """The library's, with torch's sequences of one batch and packed ones in any order as well, and in a form that
    torch.export can follow: the library's own asks where its weights lie in memory, for a fast path that it never
    takes."""

    _input_quantizers: Any
    _weight_quantizers: Any
    dropout_state: Any

    def forward(self, input: Any, hx: Any = None) -> Any:
        """[length, batch, features], [batch, length, features] where the batch comes first, [length, features], or a
        packed sequence."""
        if not isinstance(input, Tensor):
            return self._packed(input, hx)
        if input.dim() == 2:
            batch = 0 if self.batch_first else 1
            states = None if hx is None else tuple(state.unsqueeze(1) for state in hx)
            output, found = self(input.unsqueeze(batch), states)
            return output.squeeze(batch), tuple(state.squeeze(1) for state in found)
        if hx is None:
            count = self.num_layers * (2 if self.bidirectional else 1)
            hx = (input.new_zeros(count, input.shape[0 if self.batch_first else 1], self.hidden_size),) * 2
        self.check_forward_args(input, hx, None)
        run = quant_rnn.RNN(
            self.mode,
            self.input_size,
            self.hidden_size,
            num_layers=self.num_layers,
            batch_first=self.batch_first,
            dropout=self.dropout,
            train=self.training,
            bidirectional=self.bidirectional,
        )
        return run(input, self.all_weights, hx, None, self._input_quantizers, self._weight_quantizers)

    def _packed(self, input: PackedSequence, hx: Any) -> Any:
        """The library's own forward neither sorts states nor puts results back in order."""
        order, back = input.sorted_indices, input.unsorted_indices
        if hx is not None and order is not None:
            hx = tuple(state.index_select(1, order) for state in hx)
        output, found = super().forward(input, hx)
        if back is not None:
            found = tuple(state.index_select(1, back) for state in found)
        return PackedSequence(output.data, input.batch_sizes, order, back), found


OWN = {twin.__name__: twin for twin in (QuantConv1d, QuantConv2d, QuantConv3d, QuantLSTM)}
TWINS: dict[type[nn.Module], type[nn.Module]] = {
    getattr(torch.nn.modules, entry.mod_name): OWN.get(entry.replace_mod.__name__, entry.replace_mod)
    for entry in quant_modules._DEFAULT_QUANT_MAP
}
"""Twins by the classes of torch.nn.modules, which stay torch's where the library's `initialize` has patched
torch.nn."""
TRANSPOSED = (qnn.QuantConvTranspose1d, qnn.QuantConvTranspose2d, qnn.QuantConvTranspose3d)
"""Their weights are [in, out / groups, ...]: the output channels are axis 1, where the library's default says 0."""


@dataclass(frozen=True)
class Quantized:
    """What `quantize` did, by module path.

    Attributes:
        replaced: modules that became their twins.
        ignored: modules that the configuration leaves as they are.
        left: modules that have no twin of their own, though their base class has: subclasses, which may compute
            something else, LSTMs with projections, and what is inside scripted modules.
        placed: quantizers at functional operators.
    """

    replaced: tuple[str, ...]
    ignored: tuple[str, ...]
    left: tuple[str, ...]
    placed: tuple[str, ...]


def quantize(model: nn.Module, config: Config | None = None, example: Any = None) -> Quantized:
    """Quantizes a model in place; amax is for `calibrate` to find.

    Args:
        model: float, on any device.
        config: which modules and how; None: all, INT8, max, weights per output channel.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as the model is exported with; needed
            where the configuration names functional operators.

    Raises:
        TorchError: a pattern fits no module that could be quantized, a quantizer cannot be what the configuration says,
            or the model is quantized already, compiled, scripted or wrapped for several devices. The model is as it was
            then.
    """
    config = config or Config()
    refuse(model)
    if kind_of(model) in TWINS:
        name = kind_of(model).__name__
        raise TorchError(f"the model is a bare {name}; put it into a module, which then holds its twin")
    modules = {n: m for n, m in model.named_modules() if kind_of(m) in TWINS and _has_twin(m)}
    first = {m: n for n, m in modules.items()}
    every = {n: m for n, m in model.named_modules(remove_duplicate=False) if m in first}
    if not modules and any(isinstance(m, Quantizer | qnn.TensorQuantizer) for m in model.modules()):
        raise TorchError("the model holds quantizers already: link and calibrate it")
    if config.operators and example is None:
        raise TorchError("functional operators are found by running the model: give an example input")
    ignored = {first[every[n]] for n in chosen(every, config.ignore, "ignore")}
    meant = [(entry, {first[every[n]] for n in chosen(every, entry.modules, "layers")}) for entry in config.layers]
    parts = {
        path: _quantizers(path, module, *specs(config, [e for e, paths in meant if path in paths]))
        for path, module in modules.items()
        if path not in ignored
    }
    before, standing = {path: type(modules[path]) for path in parts}, set(places(model))
    for path, children in parts.items():
        retype(modules[path], children)
    left = [n for n, m in model.named_modules() if n not in modules and _like_twin(m)]
    try:
        placed = [path for entry in config.operators for path in insert(model, example, entry, config.input)]
    except TorchError:
        remove(model, standing)
        for path, kind in before.items():
            _restore(modules[path], kind, parts[path])
        raise
    take_slow_paths(model)
    return Quantized(tuple(parts), tuple(sorted(ignored)), tuple(left), tuple(placed))


def kind_of(module: nn.Module) -> type[nn.Module]:
    """A module's class, which torch derives another from where it parametrizes the module."""
    return type_before_parametrizations(module)


def retype(module: nn.Module, children: dict[str, nn.Module]) -> None:
    """Makes a module its twin, with these quantizers; a parametrized one stays so."""
    twin = TWINS[kind_of(module)]
    if is_parametrized(module):  # torch has made a class for it alone, which computes its parameters
        own = {n: x for n, x in vars(type(module)).items() if n not in ("__dict__", "__weakref__")}
        twin = type(f"Parametrized{twin.__name__}", (twin,), own)
    module.__class__ = twin
    object.__setattr__(module, "_fake_quant", True)
    for name, child in children.items():
        module.add_module(name, child)
    if isinstance(module, qnn.QuantLSTM):
        module.dropout_state, module._data_ptrs = {}, []


def _restore(module: nn.Module, kind: type[nn.Module], children: dict[str, nn.Module]) -> None:
    """Makes a twin the module that it was."""
    module.__class__ = kind
    for name in children:
        delattr(module, name)
    for name in ("_fake_quant", "dropout_state", "_data_ptrs"):
        module.__dict__.pop(name, None)


def take_slow_paths(model: nn.Module) -> None:
    """Lets torch's transformer layers call their Linears: in eval mode they would read the weights and pass by the
    quantizers."""
    for module in model.modules():
        if any(isinstance(m, Quantizer) for m in module.modules()):
            if isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0  # as of an activation that the fast path does not know
            elif isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False


def default_axis(module: nn.Module) -> int:
    """The axis of the output channels of a module's weight."""
    return 1 if isinstance(module, TRANSPOSED) or issubclass(TWINS.get(kind_of(module), nn.Module), TRANSPOSED) else 0


def _has_twin(module: nn.Module) -> bool:
    return not getattr(module, "proj_size", 0)  # the library's LSTM knows no projections


def _like_twin(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", "") in {kind.__name__ for kind in TWINS}
    quantized = isinstance(module, tuple(TWINS.values()))
    return not quantized and isinstance(module, tuple(TWINS))


def _quantizers(path: str, module: Any, input: Spec, weight: Spec) -> dict[str, nn.Module]:
    """The quantizers of a module's twin, by the library's names."""
    twin = TWINS[kind_of(module)]
    dimensions = max((p.dim() for p in module.parameters()), default=None)
    if dimensions is not None and isinstance(weight.axis, int) and weight.axis >= dimensions:
        raise TorchError(f"{path}: its weight has {dimensions} dimensions, there is no axis {weight.axis}")
    try:
        if issubclass(twin, qnn.QuantLSTM):
            count = module.num_layers * (2 if module.bidirectional else 1)
            return {
                "_input_quantizers": nn.ModuleList(input.quantizer(None) for _ in range(count)),
                "_weight_quantizers": nn.ModuleList(weight.quantizer(0) for _ in range(count)),
            }
        found: dict[str, nn.Module] = {"_input_quantizer": input.quantizer(None)}
        if getattr(module, "weight", None) is not None or hasattr(module, "weight_ih"):
            found["_weight_quantizer"] = weight.quantizer(default_axis(module))
        return found
    except TorchError as error:
        raise TorchError(f"{path}: {error}") from error
