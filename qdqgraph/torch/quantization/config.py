"""`Config`: which modules are quantized and how, from Python or from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...calibration.methods import DEFAULT, find_method, methods
from ...calibration.methods.percentile import DEFAULT_PERCENTILE, refuse_percentile
from ...errors import TorchError
from ...toml.file import TomlFile
from ..calls.places import ADD_INPUTS
from ..quantizer.choice import Choice
from ..quantizer.quantizer import QuantDescriptor, Quantizer, made

AXES = 5
"""As many dimensions as the weight of a Conv3d has."""
SCHEMA = Path(__file__).with_name("config.schema.json")


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
        file = TomlFile(path, SCHEMA)
        _refuse_unknown_methods(file)
        data = file.data
        return cls(
            tuple(data.get("ignore", ())),
            _spec(Spec(), data.get("input", {})),
            _spec(Spec(), data.get("weight", {})),
            tuple(Layers(tuple(e["modules"]), e.get("input", {}), e.get("weight", {})) for e in data.get("layers", ())),
            tuple(
                Operator(
                    e["operator"], e.get("inputs", "both"), tuple(e.get("modules", ("*",))), tuple(e.get("classes", ()))
                )
                for e in data.get("operators", ())
            ),
        )


def _refuse_unknown_methods(file: TomlFile) -> None:
    """Refuses a configuration file that names a method that there is not.

    Raises:
        RuleError: with the line of the name.
    """
    tables: dict[tuple[str | int, ...], Mapping[str, Any]] = {(): file.data}
    tables |= {("layers", number): entry for number, entry in enumerate(file.data.get("layers", ()))}
    for place, table in tables.items():
        for kind in ("input", "weight"):
            name = table.get(kind, {}).get("method", DEFAULT)
            if name not in methods():
                where = " ".join(f"#{step + 1}" if isinstance(step, int) else step for step in (*place, kind))
                at = (*place, kind, "method")
                file.fail(at, f"{where} method is {name!r}; write one of {', '.join(methods())}")


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
