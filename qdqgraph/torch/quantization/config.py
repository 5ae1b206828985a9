"""`Config`: which modules are quantized and how, from Python or from a TOML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import UNSET
from torch import nn

from ...calibration.methods import DEFAULT, find_method, methods
from ...calibration.methods.percentile import DEFAULT_PERCENTILE, refuse_percentile
from ...errors import TorchError
from ...toml.file import TomlFile
from ...toml.place import spelled
from ..calls.places import ADD_INPUTS
from ..quantizer.backend import TOOLKIT, Backend, find_backend
from ..quantizer.base import Quantizer
from ..quantizer.choice import Choice
from .form import ConfigForm, LayersTable

AXES = 5
"""The number of dimensions of the weight of a Conv3d, the largest that is quantized."""


@dataclass(frozen=True)
class Spec:
    """How a tensor is quantized.

    Attributes:
        method: the name of a calibration method; all except max need a per-tensor amax.
        percentile: of values that stay within amax, in percent, for method percentile.
        num_bits: bits of the integers; TensorRT supports 8.
        unsigned: whether the integers are unsigned; TensorRT rejects it.
        axis: the channel axis, or None for a per-tensor amax; "default" is None for inputs, and for weights the axis of
            the output channels: 0, and 1 for transposed convolutions.
    """

    method: str = DEFAULT
    percentile: float = DEFAULT_PERCENTILE
    num_bits: int = 8
    unsigned: bool = False
    axis: int | str | None = "default"

    def quantizer(self, default_axis: int | None, backend: Backend | None = None) -> Quantizer:
        """A new quantizer, of the default backend if none is given.

        Raises:
            CalibrationError: the method is unknown, or the percentile is out of its range.
            TorchError: num_bits or axis is out of its range, or the method searches a histogram although there is an
                axis.
        """
        axis = default_axis if self.axis == "default" else self.axis
        if not isinstance(self.num_bits, int) or not 2 <= self.num_bits <= 16:
            raise TorchError(f"num_bits {self.num_bits!r}: write an integer from 2 to 16; TensorRT supports 8")
        if axis is not None and (not isinstance(axis, int) or not 0 <= axis < AXES):
            raise TorchError(f'axis {axis!r}: write "default", None, or a number from 0 to {AXES - 1}')
        histogram = find_method(self.method).search is not None
        if histogram and axis is not None:
            raise TorchError(
                f"method {self.method!r} searches one histogram, but axis {axis} requests a per-channel amax: "
                "use method 'max', or no axis"
            )
        refuse_percentile(self.percentile)
        made = (backend or find_backend(TOOLKIT)).new(self.num_bits, axis, self.unsigned, histogram)
        made.method, made.percentile = self.method, self.percentile
        return made


@dataclass(frozen=True)
class Layers:
    """Entries of `Spec` that replace the general ones for some modules.

    Attributes:
        modules: the modules.
        input, weight: entries by name, such as {"method": "entropy"}.
    """

    modules: Choice
    input: Mapping[str, Any]
    weight: Mapping[str, Any]


@dataclass(frozen=True)
class Operator:
    """Functional operators that get quantizers.

    Attributes:
        operator: "add", "cat", "interpolate", "max_pool2d", "mul" and so on, as torch names them.
        inputs: "both" for all inputs; for an add also "skip", the operand that does not end in a convolution of the
            block, and "downsample", both operands if each ends in one.
        modules: the modules whose calls get them; all by default.
        classes: class names of these modules; any by default.
    """

    operator: str
    inputs: str = "both"
    modules: Choice = "*"
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """How a model is quantized.

    Attributes:
        ignore: modules that stay as they are: `link` adds no quantizers at their calls either. "layer1.0.add" selects
            the calls of an operator in a module.
        input, weight: how activations and weights are quantized.
        layers: entries for some modules; a later one takes precedence over an earlier one.
        operators: functional operators that get quantizers in addition to those that the rules of `link` request.
        treat: classes in torch.nn by names of classes of your own, with or without their Python module, such as
            {"StdConv": "Conv2d"}: the convolution that their forward calls is quantized, and what else it computes,
            weights included, stays. Subclasses of Conv2d and so on need no entry if their forward allows it.
    """

    ignore: Choice = ()
    input: Spec = Spec()
    weight: Spec = Spec()
    layers: tuple[Layers, ...] = ()
    operators: tuple[Operator, ...] = ()
    treat: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Config:
        """Reads a configuration file.

        Raises:
            RuleError: the file cannot be read, or an entry is wrong; with line and what to write.
        """
        file = TomlFile(path, ConfigForm)
        _refuse_unknown_methods(file)
        form = file.data
        return cls(
            form.ignore,
            _merged(Spec(), form.input.given()),
            _merged(Spec(), form.weight.given()),
            tuple(Layers(e.modules, e.input.given(), e.weight.given()) for e in form.layers),
            tuple(Operator(e.operator, e.inputs, e.modules, e.classes) for e in form.operators),
            form.treat,
        )

    def plain(self, layers: Mapping[str, nn.Module], modules: Mapping[str, nn.Module]) -> dict[str, Any]:
        """The configuration as dictionaries and lists; a function that selects modules becomes the paths it selects.

        Args:
            layers: the modules that can be quantized, by path; functions of `ignore` and `layers` choose among them.
            modules: all modules by path; functions of `operators` choose among them.
        """
        return {
            "ignore": plain_choice(self.ignore, layers),
            "input": asdict(self.input),
            "weight": asdict(self.weight),
            "layers": [
                {"modules": plain_choice(e.modules, layers), "input": dict(e.input), "weight": dict(e.weight)}
                for e in self.layers
            ],
            "operators": [
                {
                    "operator": e.operator,
                    "inputs": e.inputs,
                    "modules": plain_choice(e.modules, modules),
                    "classes": list(e.classes),
                }
                for e in self.operators
            ],
            "treat": dict(self.treat),
        }


def plain_choice(choice: Choice, modules: Mapping[str, nn.Module]) -> list[str]:
    """A choice as patterns that a file can contain; a function becomes the paths that it selects."""
    if callable(choice):
        return sorted(path for path, module in modules.items() if choice(path, module))
    patterns = [choice] if isinstance(choice, str | re.Pattern) else choice
    return [f"re:{p.pattern}" if isinstance(p, re.Pattern) else p for p in patterns if p]


def _refuse_unknown_methods(file: TomlFile[ConfigForm]) -> None:
    """Refuses a file that names an unknown calibration method. Methods are files, so no schema can list them.

    Raises:
        RuleError: with the line of the name.
    """
    tables: list[tuple[tuple[str | int, ...], ConfigForm | LayersTable]] = [((), file.data)]
    tables += [(("layers", number), table) for number, table in enumerate(file.data.layers)]
    for place, table in tables:
        for kind, spec in (("input", table.input), ("weight", table.weight)):
            if spec.method is not UNSET and spec.method not in methods():
                at = (*place, kind, "method")
                file.fail(at, f"{spelled(at)} is {spec.method!r}; write one of {', '.join(methods())}")


def specs_for(config: Config, entries: list[Layers]) -> tuple[Spec, Spec]:
    """How the input and the weight of a module are quantized, given the entries of `layers` that select it."""
    found = config.input, config.weight
    for entry in entries:
        found = _merged(found[0], entry.input), _merged(found[1], entry.weight)
    return found


def _merged(base: Spec, entries: Mapping[str, Any]) -> Spec:
    """The specification with some entries replaced; in files, axis "none" means None."""
    given = dict(entries)
    if given.get("axis") == "none":
        given["axis"] = None
    try:
        return replace(base, **given)
    except TypeError as error:
        names = ", ".join(Spec.__dataclass_fields__)
        raise TorchError(f"a quantizer has no such entry: {error}; the entries are {names}") from error


__all__ = ["ADD_INPUTS", "Config", "Layers", "Operator", "Spec", "specs_for"]
