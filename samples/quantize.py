"""Quantizes a network with pytorch-quantization in the usual way: replace the modules, calibrate, export.

Quantizers have pytorch-quantization's names (`_input_quantizer`, `_weight_quantizer`). Weights are quantized per output
channel with their largest magnitude, activations per tensor.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from absl import logging
from torch import Tensor, nn

from samples.networks import Add

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the library calls torch.jit.script when imported
    from pytorch_quantization import calib
    from pytorch_quantization import nn as qnn
    from pytorch_quantization.tensor_quant import QuantDescriptor

CALIBRATORS = ("max", "histogram")
METHODS = ("percentile", "entropy")
"""How a histogram becomes a range. The library's third method, mse, needs a CUDA device."""
QUANT_ADDS = ("none", "skip", "both")
OPSET = 17
"""The newest opset that the TorchScript exporter writes and TensorRT 8.5 and later read; uses QuantizeLinear-13."""

logging.set_verbosity(logging.ERROR)  # the library warns once per quantizer and step


class QuantAdd(nn.Module):
    """Add with quantized inputs: only the skip, as in NVIDIA's quantized ResNet, or both."""

    def __init__(self, descriptor: QuantDescriptor, both: bool) -> None:
        super().__init__()
        self._input0_quantizer = qnn.TensorQuantizer(descriptor) if both else nn.Identity()
        self._input1_quantizer = qnn.TensorQuantizer(descriptor)

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        """[n, c, h, w] twice → [n, c, h, w]."""
        out: Tensor = self._input0_quantizer(branch) + self._input1_quantizer(skip)
        return out


def swap(network: nn.Module, calibrator: str, quant_add: str) -> None:
    """Replaces every Conv2d, Linear, AdaptiveAvgPool2d and Add with a quantized module, in place.

    The library's default map has no quantized MaxPool, Concat or Resize, so these stay in float, as in most exported
    files. `quant_add` is one of `QUANT_ADDS`.
    """
    descriptor = QuantDescriptor(calib_method=calibrator)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Add) and quant_add != "none":
                setattr(parent, name, QuantAdd(descriptor, both=quant_add == "both"))
            elif isinstance(child, nn.Conv2d | nn.Linear | nn.AdaptiveAvgPool2d):
                setattr(parent, name, twin(child, descriptor))


def twin(module: nn.Conv2d | nn.Linear | nn.AdaptiveAvgPool2d, descriptor: QuantDescriptor) -> nn.Module:
    """The quantized module with the same parameters; `descriptor` is for its input."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        pool: nn.Module = qnn.QuantAdaptiveAvgPool2d(module.output_size, quant_desc_input=descriptor)
        return pool
    bias = module.bias is not None
    if isinstance(module, nn.Linear):
        new = qnn.QuantLinear(module.in_features, module.out_features, bias, quant_desc_input=descriptor)
    else:
        new = qnn.QuantConv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            module.stride,
            module.padding,
            module.dilation,
            module.groups,
            bias,
            quant_desc_input=descriptor,
        )
    new.weight, new.bias = module.weight, module.bias
    quantized: nn.Module = new
    return quantized


def calibrate(network: nn.Module, batches: Iterable[Tensor], method: str) -> None:
    """Calibrates every quantizer on float runs over the batches; `method` applies to histogram calibrators.

    Raises:
        RuntimeError: a quantizer saw no data. Without amax, the export would take it from the example input.
    """
    quantizers = [m for m in network.modules() if isinstance(m, qnn.TensorQuantizer)]
    for quantizer in quantizers:
        quantizer.disable_quant()
        quantizer.enable_calib()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for quantizer in quantizers:
        histogram = isinstance(quantizer._calibrator, calib.HistogramCalibrator)
        quantizer.load_calib_amax(*((method,) if histogram else ()))
        quantizer.disable_calib()
        quantizer.enable_quant()


def export(network: nn.Module, example: Tensor, path: Path, outputs: Sequence[str]) -> None:
    """Writes the network as ONNX with the fixed shapes of `example` [n, c, h, w]; the input is named "images".

    `use_fb_fake_quant` makes the library export Q/DQ; without it the file would contain Round and Clip instead.
    """
    qnn.TensorQuantizer.use_fb_fake_quant = True
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns about each amax.item(), which is a constant here
            torch.onnx.export(
                network.eval(),
                (example,),
                path,
                opset_version=OPSET,
                dynamo=False,
                input_names=["images"],
                output_names=list(outputs),
            )
    finally:
        qnn.TensorQuantizer.use_fb_fake_quant = False
