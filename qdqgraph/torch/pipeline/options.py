"""Arguments of the pipeline's calls: a network with its data, how it is quantized and exported, and its float units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ...rulekit.rule import Rule
from ..comparison.compare import BATCHES
from ..quantization.config import Config
from ..quantizer.backend import TOOLKIT
from ..training.objective import Loss
from ..training.ranking import Sensitivity


@dataclass(frozen=True)
class Network:
    """A float network, its data and its score.

    Attributes:
        model: returns the float network, in eval mode or not.
        data: returns an iterable of batches, called for each pass of calibration and training. A batch is a tensor or
            array whose first dimension is the batch; of a tuple, list or dictionary the first entry is the input.
        evaluate: scores a network, higher is better; None: nothing is scored.
        device: the device, as torch names it.
        option: returns an option's name for messages; the command line adds the dashes.
        loss: the task's loss, for training; see `finetune`.
    """

    model: Callable[[], nn.Module]
    data: Callable[[], Iterable[Any]]
    evaluate: Callable[[nn.Module], float] | None = None
    device: str = "cpu"
    option: Callable[[str], str] = str
    loss: Loss | None = None


@dataclass(frozen=True)
class Preparation:
    """How a float network becomes a calibrated one.

    Attributes:
        config: which modules are quantized and how, or a file that defines it (see `Config.read`); None: all, INT8,
            max, weights per output channel.
        link: let the graph rules tie quantizers, add missing ones and disable those that prevent a fusion.
        rules: the rules for linking and for the check of the file; None: the built-in rules and those of installed
            packs.
        method, percentile, batches: as in `calibrate`.
        load: a file that `save` wrote. Nothing is then quantized, linked or calibrated, so omit `config`, and without
            units to leave in float also `method`, `percentile` and `batches`. With such units the network is calibrated
            again: what is not given is as it was when the state was calibrated.
        force_load: load what fits of a state that differs from the network; what differs is reported.
        backend: the library of the quantizers, as in `quantize`; a loaded state has its own.
    """

    config: Config | Path | None = None
    link: bool = True
    rules: Sequence[Rule] | None = None
    method: str = ""
    percentile: float | None = None
    batches: int | None = None
    load: Path | str | None = None
    force_load: bool = False
    backend: str = TOOLKIT


@dataclass(frozen=True)
class Exporting:
    """How the ONNX file is written, and in which exporter's graph quantizers are linked; see `export`.

    Attributes:
        opset: 13 to 20, with `dynamo` 18 to 20; None: 17, with `dynamo` 18.
        dynamo: use torch.export instead of tracing.
        dynamic_batch: make the first dimension of every input and output dynamic.
        allow_zero: write quantizers that received only zeros, with a scale of 1.
        compare: how many batches the file is compared with the network on, as by `compare_export`; 0: it is not.
    """

    opset: int | None = None
    dynamo: bool = False
    dynamic_batch: bool = False
    allow_zero: bool = False
    compare: int = BATCHES


@dataclass(frozen=True)
class FloatUnits:
    """The units of a ranking that run in float; the other units are linked and calibrated again.

    Attributes:
        ranking: of this network.
        top: how many units, the most expensive first.
        budget: instead, as many as needed, so that the remaining costs add up to at most this.
    """

    ranking: Sensitivity
    top: int | None = None
    budget: float | None = None
