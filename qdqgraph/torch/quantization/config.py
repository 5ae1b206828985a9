"""`Config`: which modules are quantized and how, from Python or from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import UNSET

from ...calibration.methods import DEFAULT, find_method, methods
from ...calibration.methods.percentile import DEFAULT_PERCENTILE, refuse_percentile
from ...errors import TorchError
from ...toml.file import TomlFile
from ...toml.place import spelled
from ..calls.places import ADD_INPUTS
from ..quantizer.choice import Choice
from ..quantizer.quantizer import QuantDescriptor, Quantizer, made
from .form import ConfigForm, LayersTable

AXES = 5
"""As many dimensions as the weight of a Conv3d has."""


@dataclass(frozen=True)
class Spec:
    """How a tensor is quantized.

    Attributes:
        method: the name of a calibration method; all but max need one amax for the whole tensor.
        percentile: of values that stay within amax, in percent, for method percentile.
        num_bits: bits of the integers; TensorRT takes 8.
        unsigned: whether the integers begin at 0; TensorRT refuses it.
        axis: the channel axis, or None for one amax; "default" is None for inputs, and for weights the axis of the
            output channels: 0, and 1 for transposed convolutions.
    """

    method: str = DEFAULT
    percentile: float = DEFAULT_PERCENTILE
    num_bits: int = 8
    unsigned: bool = False
    axis: int | str | None = "default"

    def quantizer(self, default_axis: int | None) -> Quantizer:
        """A new quantizer.

        Raises:
            TorchError: num_bits, axis or percentile is none, there is no such method, or it searches a histogram where
                each channel has its own amax.
        """
        axis = default_axis if self.axis == "default" else self.axis
        if not isinstance(self.num_bits, int) or not 2 <= self.num_bits <= 16:
            raise TorchError(f"num_bits {self.num_bits!r}: write a whole number from 2 to 16; TensorRT takes 8")
        if axis is not None and (not isinstance(axis, int) or not 0 <= axis < AXES):
            raise TorchError(f'axis {axis!r}: write "default", None, or a number from 0 to {AXES - 1}')
        histogram = find_method(self.method).search is not None
        if histogram and axis is not None:
            raise TorchError(
                f"method {self.method!r} searches one histogram, and axis {axis} asks for an amax a channel: "
                "take method 'max', or no axis"
            )
        refuse_percentile(self.percentile)
        kind = "histogram" if histogram else "max"
        descriptor = QuantDescriptor(self.num_bits, axis=axis, calib_method=kind, unsigned=self.unsigned)
        return made(descriptor, self.method, self.percentile)


@dataclass(frozen=True)
class Layers:
    """Another way for some modules: entries of `Spec` that replace the general ones.

    Attributes:
        modules: which ones.
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
        inputs: "both" for all inputs; of an add also "skip", the side that does not end in a convolution, and
            "downsample", both where both sides do.
        modules: the modules whose calls are meant; everywhere by default.
        classes: names of classes that they must have; any by default.
    """

    operator: str
    inputs: str = "both"
    modules: Choice = "*"
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """How a model is quantized.

    Attributes:
        ignore: modules that stay as they are.
        input, weight: how activations and weights are quantized.
        layers: other ways for some modules; a later entry stands above an earlier one.
        operators: functional operators that get quantizers whatever the rules of `link` ask for.
    """

    ignore: Choice = ()
    input: Spec = Spec()
    weight: Spec = Spec()
    layers: tuple[Layers, ...] = ()
    operators: tuple[Operator, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Config:
        """A configuration file.

        Raises:
            RuleError: the file cannot be read, or an entry is wrong; with line and what to write.
        """
        file = TomlFile(path, ConfigForm)
        _refuse_unknown_methods(file)
        form = file.data
        return cls(
            form.ignore,
            _spec(Spec(), form.input.given()),
            _spec(Spec(), form.weight.given()),
            tuple(Layers(e.modules, e.input.given(), e.weight.given()) for e in form.layers),
            tuple(Operator(e.operator, e.inputs, e.modules, e.classes) for e in form.operators),
        )


def _refuse_unknown_methods(file: TomlFile[ConfigForm]) -> None:
    """Refuses a file that names a method that does not exist. Methods are files: no form can list them.

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


def specs(config: Config, entries: list[Layers]) -> tuple[Spec, Spec]:
    """How the input and the weight of a module are quantized that these entries of `layers` mean."""
    found = config.input, config.weight
    for entry in entries:
        found = _spec(found[0], entry.input), _spec(found[1], entry.weight)
    return found


def _spec(base: Spec, entries: Mapping[str, Any]) -> Spec:
    given = dict(entries)
    if given.get("axis") == "none":
        given["axis"] = None
    try:
        return replace(base, **given)
    except TypeError as error:
        names = ", ".join(Spec.__dataclass_fields__)
        raise TorchError(f"a quantizer has no such entry: {error}; there are {names}") from error


__all__ = ["ADD_INPUTS", "Config", "Layers", "Operator", "Spec", "specs"]
