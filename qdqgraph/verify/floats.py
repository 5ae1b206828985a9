"""The float reference of a quantized model: its weights as the file stores them, its activations not rounded.

Where an exporter quantizes coarsely, as dynamic quantization inside an LSTM does, the original is farther from the
float network than its repair. The distance of the two then says nothing about the repair; the distance of each from the
float values does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from ..calibration.statistics.floating import float_model
from ..repair.rounds import fix
from ..rulekit.rule import Rule


def float_reference(model: onnx.ModelProto, rules: Sequence[Rule], folder: Path) -> onnx.ModelProto:
    """Returns a model whose quantized operators compute in float on the dequantized weights of the file, and whose
    activations are not rounded; a Relu or Clip that the range of a pair replaces is restored. Integers stay in the
    file, and are dequantized where it dequantizes them.

    Args:
        model: the model; it is not modified.
        rules: the rules of the run; those that replace quantized operators are applied.
        folder: the folder that contains the external data.

    Raises:
        ModelError: as `fix` and `float_model`.
        RuleError: as `fix`.
        RepairError: a quantized operator cannot be replaced.
    """
    standard = fix(model, [rule for rule in rules if rule.quantized], folder=folder).model
    return float_model(standard, folder, integers=True).model
