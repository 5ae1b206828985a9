"""`quantize`: converts every module to its quantized counterpart in pytorch-quantization, if there is one, in place.

Instances get another class: parameters, buffers, hooks, dtype and all other attributes stay, and the library's
constructors, which do not support newer arguments of torch, are never called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import Conv1d, Conv2d, Conv3d
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.rnn import PackedSequence

from ...errors import TorchError
from ..calibration.provenance import remember
from ..calls.places import places, remove_quantizers
from ..quantizer.backend import MODELOPT, TOOLKIT, find_backend
from ..quantizer.choice import select_modules
from ..quantizer.fast_paths import disable_fast_paths
from ..quantizer.quantizer import qnn, quant_modules, quant_rnn, quantizers
from ..quantizer.wrapped import refuse_wrapped
from .config import Config, Spec, specs_for
from .insert import insert_at_operator
from .optimizer import convert_by_modelopt, place_quantizers


class QuantConv1d(qnn.QuantConv1d, Conv1d):
    """The library's class, with every padding mode: its own forward halves circular padding, and pads with zeros in the
    other modes."""

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
    """The library's class, also for sequences without a batch and packed ones in any order, and without the memory
    addresses of its weights, which torch.export cannot trace and which the library never uses."""

    _input_quantizers: Any
    _weight_quantizers: Any
    dropout_state: Any

    def forward(self, input: Any, hx: Any = None) -> Any:
        """[length, batch, features], [batch, length, features] if `batch_first`, [length, features], or a packed
        sequence."""
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
        """Sorts states and restores the order of results, which the library's forward does not."""
        order, back = input.sorted_indices, input.unsorted_indices
        if hx is not None and order is not None:
            hx = tuple(state.index_select(1, order) for state in hx)
        output, found = super().forward(input, hx)
        if back is not None:
            found = tuple(state.index_select(1, back) for state in found)
        return PackedSequence(output.data, input.batch_sizes, order, back), found


OWN_CLASSES = {kind.__name__: kind for kind in (QuantConv1d, QuantConv2d, QuantConv3d, QuantLSTM)}
QUANTIZED_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    getattr(torch.nn.modules, entry.mod_name): OWN_CLASSES.get(entry.replace_mod.__name__, entry.replace_mod)
    for entry in quant_modules._DEFAULT_QUANT_MAP
}
"""Quantized classes by the classes in torch.nn.modules: the library's `initialize` patches those in torch.nn."""
TRANSPOSED = (qnn.QuantConvTranspose1d, qnn.QuantConvTranspose2d, qnn.QuantConvTranspose3d)
"""Their weights are [in, out / groups, ...]: the output channels are axis 1, but the library's default is axis 0."""


@dataclass(frozen=True)
class Quantized:
    """What `quantize` did, by module path.

    Attributes:
        replaced: modules that were converted to their quantized counterparts.
        ignored: modules that the configuration, or with "modelopt" also its INT8_DEFAULT_CFG, leaves in float.
        left: modules without a counterpart whose base class has one: subclasses, which may compute something else,
            LSTMs with projections, and modules inside scripted ones.
        inserted: quantizers at functional operators.
    """

    replaced: tuple[str, ...]
    ignored: tuple[str, ...]
    left: tuple[str, ...]
    inserted: tuple[str, ...]


def quantize(
    model: nn.Module, config: Config | None = None, example: Any = None, *, backend: str = TOOLKIT
) -> Quantized:
    """Quantizes a model in place; `calibrate` then finds amax.

    Args:
        model: float, on any device.
        config: which modules and how; None: all, INT8, max, weights per output channel.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as for `export`; needed
            if the configuration lists functional operators.
        backend: the library whose quantizers the model gets, "pytorch-quantization" or "modelopt". With "modelopt",
            modules that INT8_DEFAULT_CFG excludes by name are left in float too.

    Raises:
        TorchError: a pattern matches no module that can be quantized, the settings of a quantizer contradict each
            other, the backend is not installed, or the model is already quantized, compiled, scripted or wrapped for
            several devices. An error leaves the model unchanged; with "modelopt", one about functional operators does
            not.
    """
    config = config or Config()
    refuse_wrapped(model)
    every_module = dict(model.named_modules())
    if class_of(model) in QUANTIZED_CLASSES:
        name = class_of(model).__name__
        raise TorchError(f"the model is a single {name}: wrap it in a module, for example nn.Sequential")
    modules = {n: m for n, m in model.named_modules() if class_of(m) in QUANTIZED_CLASSES and _is_supported(m)}
    first = {m: n for n, m in modules.items()}
    every = {n: m for n, m in model.named_modules(remove_duplicate=False) if m in first}
    library = find_backend(backend)
    existing = quantizers(model)
    if existing and (not modules or any(q.library is not library for q in existing.values())):
        raise TorchError("the model already contains quantizers: link and calibrate it")
    if config.operators and example is None:
        raise TorchError("functional operators are found by running the model: give an example input")
    ignored = {first[every[n]] for n in select_modules(every, config.ignore, "ignore")}
    selected = [
        (entry, {first[every[n]] for n in select_modules(every, entry.modules, "layers")}) for entry in config.layers
    ]
    specs = {
        path: specs_for(config, [e for e, paths in selected if path in paths])
        for path in modules
        if path not in ignored
    }
    if backend == MODELOPT:
        done = _quantize_by_modelopt(model, config, example, modules, specs)
        remember(model, config=config.plain(every, every_module))
        return done
    parts = {path: _quantizers(path, modules[path], *found) for path, found in specs.items()}
    before, existing_places = {path: type(modules[path]) for path in parts}, set(places(model))
    for path, children in parts.items():
        convert_module(modules[path], children)
    left = [n for n, m in model.named_modules() if n not in modules and _resembles_supported(m)]
    try:
        inserted = [
            path for entry in config.operators for path in insert_at_operator(model, example, entry, config.input)
        ]
    except TorchError:
        remove_quantizers(model, existing_places)
        for path, kind in before.items():
            _revert(modules[path], kind, parts[path])
        raise
    disable_fast_paths(model)
    remember(model, config=config.plain(every, every_module))
    return Quantized(tuple(parts), tuple(sorted(ignored)), tuple(left), tuple(inserted))


def _quantize_by_modelopt(
    model: nn.Module,
    config: Config,
    example: Any,
    modules: Mapping[str, nn.Module],
    specs: Mapping[str, tuple[Spec, Spec]],
) -> Quantized:
    """Quantizes the modules of `specs`, each with the specifications of its input and its weight."""
    library = find_backend(MODELOPT)
    parts = {
        path: {
            True: weight.quantizer(_checked_axis(path, modules[path], weight), library),
            False: input.quantizer(None, library),
        }
        for path, (input, weight) in specs.items()
    }
    convert_by_modelopt(model)
    replaced = place_quantizers(model, parts)
    inserted = [path for entry in config.operators for path in insert_at_operator(model, example, entry, config.input)]
    left = [n for n, m in model.named_modules() if n not in modules and _resembles_supported(m)]
    disable_fast_paths(model)
    return Quantized(replaced, tuple(sorted(set(modules) - set(replaced))), tuple(left), tuple(inserted))


def class_of(module: nn.Module) -> type[nn.Module]:
    """A module's class, without the class that torch derives from it for a parametrized module."""
    return type_before_parametrizations(module)


def convert_module(module: nn.Module, children: dict[str, nn.Module]) -> None:
    """Converts a module to its quantized class, with these quantizers; a parametrized module stays parametrized."""
    quantized_class = QUANTIZED_CLASSES[class_of(module)]
    if is_parametrized(module):  # torch gave it its own class, which computes its parameters
        own = {n: x for n, x in vars(type(module)).items() if n not in ("__dict__", "__weakref__")}
        quantized_class = type(f"Parametrized{quantized_class.__name__}", (quantized_class,), own)
    module.__class__ = quantized_class
    object.__setattr__(module, "_fake_quant", True)
    for name, child in children.items():
        module.add_module(name, child)
    if isinstance(module, qnn.QuantLSTM):
        module.dropout_state, module._data_ptrs = {}, []


def _revert(module: nn.Module, kind: type[nn.Module], children: dict[str, nn.Module]) -> None:
    """Undoes `convert_module`."""
    module.__class__ = kind
    for name in children:
        delattr(module, name)
    for name in ("_fake_quant", "dropout_state", "_data_ptrs"):
        module.__dict__.pop(name, None)


def default_axis(module: nn.Module) -> int:
    """The axis of the output channels of a module's weight."""
    return 1 if issubclass(QUANTIZED_CLASSES.get(class_of(module), type(module)), TRANSPOSED) else 0


def _is_supported(module: nn.Module) -> bool:
    return not getattr(module, "proj_size", 0)  # the library's LSTM has no projections


def _resembles_supported(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", "") in {kind.__name__ for kind in QUANTIZED_CLASSES}
    quantized = isinstance(module, tuple(QUANTIZED_CLASSES.values()))
    return not quantized and isinstance(module, tuple(QUANTIZED_CLASSES))


def _checked_axis(path: str, module: nn.Module, weight: Spec) -> int:
    """The axis of the output channels of a module's weight, if the weight has the axis that is asked for."""
    dimensions = max((p.dim() for p in module.parameters()), default=None)
    if dimensions is not None and isinstance(weight.axis, int) and weight.axis >= dimensions:
        raise TorchError(f"{path}: its weight has {dimensions} dimensions, so it has no axis {weight.axis}")
    return default_axis(module)


def _quantizers(path: str, module: Any, input: Spec, weight: Spec) -> dict[str, nn.Module]:
    """The quantizers of a module's quantized class, by the library's names."""
    quantized_class = QUANTIZED_CLASSES[class_of(module)]
    axis = _checked_axis(path, module, weight)
    try:
        if issubclass(quantized_class, qnn.QuantLSTM):
            count = module.num_layers * (2 if module.bidirectional else 1)
            return {
                "_input_quantizers": nn.ModuleList(input.quantizer(None) for _ in range(count)),
                "_weight_quantizers": nn.ModuleList(weight.quantizer(0) for _ in range(count)),
            }
        found: dict[str, nn.Module] = {"_input_quantizer": input.quantizer(None)}
        if getattr(module, "weight", None) is not None or hasattr(module, "weight_ih"):
            found["_weight_quantizer"] = weight.quantizer(axis)
        return found
    except TorchError as error:
        raise TorchError(f"{path}: {error}") from error
