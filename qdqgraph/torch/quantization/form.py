"""The keys of a quantization file, typed: what `Config.read` accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..calls.places import ADD_INPUTS
from ..calls.treated import OPERATORS

if TYPE_CHECKING:
    InputsName = str
    TreatedName = str
else:
    InputsName = Literal[ADD_INPUTS]
    TreatedName = Literal[tuple(OPERATORS)]

Text = Annotated[str, Meta(min_length=1)]
Modules = Annotated[tuple[Text, ...], Meta(description="Globs on paths of modules, or re: and a regular expression.")]


class SpecTable(Struct, frozen=True, forbid_unknown_fields=True):
    """How a tensor is quantized"""

    method: Annotated[Text, Meta(description="The name of a calibration method.")] | UnsetType = UNSET
    percentile: Annotated[float, Meta(description="Of values that stay within amax, in percent.")] | UnsetType = UNSET
    num_bits: Annotated[int, Meta(ge=2, le=16, description="TensorRT supports 8.")] | UnsetType = UNSET
    unsigned: Annotated[bool, Meta(description="TensorRT supports only signed integers.")] | UnsetType = UNSET
    axis: (
        Annotated[Literal["default", "none", 0, 1, 2, 3, 4], Meta(description="The channel axis; none: per tensor.")]
        | UnsetType
    ) = UNSET

    def given(self) -> dict[str, Any]:
        """The entries that are in the file."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class LayersTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Different settings for some modules"""

    modules: Modules
    input: SpecTable = SpecTable()
    weight: SpecTable = SpecTable()


class OperatorTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A functional operator that gets quantizers"""

    operator: Annotated[Text, Meta(description="As torch names it: add, cat, interpolate, max_pool2d, mul.")]
    inputs: Annotated[InputsName, Meta(description="Which inputs; skip and downsample are for add.")] = "both"
    modules: Modules = ("*",)
    classes: Annotated[tuple[Text, ...], Meta(description="Names of the modules' classes.")] = ()


class ConfigForm(Struct, frozen=True, forbid_unknown_fields=True):
    """How a PyTorch model is quantized"""

    ignore: Annotated[Modules, Meta(description="Modules that stay as they are.")] = ()
    input: Annotated[SpecTable, Meta(description="How activations are quantized.")] = SpecTable()
    weight: Annotated[SpecTable, Meta(description="How weights are quantized.")] = SpecTable()
    layers: Annotated[
        tuple[LayersTable, ...],
        Meta(description="Different settings for some modules; later entries override earlier ones."),
    ] = ()
    operators: Annotated[tuple[OperatorTable, ...], Meta(description="Functional operators that get quantizers.")] = ()
    treat: Annotated[
        dict[Text, TreatedName],
        Meta(description="Classes in torch.nn by names of your own classes, whose convolution is quantized."),
    ] = {}
