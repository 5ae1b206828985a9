"""The quantized classes of pytorch-quantization, with faults of their forwards corrected, by the classes of torch.nn.

Instances get another class: the library's constructors, which do not support newer arguments of torch, are never
called.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import Conv1d, Conv2d, Conv3d
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.nn.utils.rnn import PackedSequence

from ..calls.treated import OPERATORS
from ..quantizer.quantizer import qnn, quant_modules, quant_rnn


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
    if entry.orig_mod is torch.nn and hasattr(torch.nn.modules, entry.mod_name)
}
"""Quantized classes by the classes in torch.nn.modules: the library's `initialize` patches those in torch.nn."""
_LIBRARY_CLASSES = {base: getattr(qnn, f"Quant{base.__name__}") for base in QUANTIZED_CLASSES}
TRANSPOSED = (qnn.QuantConvTranspose1d, qnn.QuantConvTranspose2d, qnn.QuantConvTranspose3d)
"""Their weights are [in, out / groups, ...]: the output channels are axis 1, but the library's default is axis 0."""


def extended_classes() -> dict[type[nn.Module], str]:
    """The classes that a user added to the library's map, `quant_modules._DEFAULT_QUANT_MAP`, with the classes of
    torch.nn that their quantized classes derive from."""
    found: dict[type[nn.Module], str] = {}
    for entry in quant_modules._DEFAULT_QUANT_MAP:
        kind = getattr(entry.orig_mod, entry.mod_name, None)
        derived = (base.__name__ for base, own in _LIBRARY_CLASSES.items() if issubclass(entry.replace_mod, own))
        name = next(derived, None)
        is_own = isinstance(kind, type) and issubclass(kind, tuple(_LIBRARY_CLASSES.values()))
        if isinstance(kind, type) and not is_own and kind not in QUANTIZED_CLASSES and name in OPERATORS:
            found[kind] = name
    return found


def class_of(module: nn.Module) -> type[nn.Module]:
    """A module's class, without the class that torch derives from it for a parametrized module."""
    return type_before_parametrizations(module)
