"""`Target`: what one generation of TensorRT accepts, read from one data file per generation with a source per entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..errors import ModelError, unknown
from ..versions import tomllib

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(p.stem for p in FOLDER.glob("*.toml")))
DEFAULT = "trt-10"


@dataclass(frozen=True)
class Target:
    """A generation of TensorRT. Each attribute is an entry of its data file, which names the source.

    Attributes:
        name: identifier, such as "trt-10".
        title: name for messages, such as "TensorRT 10.2 to 10.16".
        opset: the newest version of the standard operator set that its parser documents.
        strong: networks are strongly typed: every layer runs in the types of the file.
        fp16: FP16 around INT8 can be given in the file; otherwise the builder alone chooses FP16.
        deconvolution_axis: the axis of per-channel scales of ConvTranspose weights, 0 or 1.
        group_channels: an INT8 convolution with groups needs a multiple of this number of input channels, and of output
            channels, in each group.
        depthwise_channels: a depthwise INT8 convolution, with one input channel in each group, needs a multiple of this
            number of channels instead.
        weights_as_output: the integers of a layer's weights may be a network output too.
        joined: the category of operators (`qdqgraph.operators`) that run in one kernel with their neighbors.
        pairs_inside: Q and DQ run inside the kernels of such operators, also Q -> DQ in floating point.
        unmoved: data-movement ops over which Q and DQ do not move.
        undequantized: data-movement ops over which a Q moves, but no DQ; of Pad only those that add zeros.
        padding_over_pair: a Pad fuses with the convolution downstream also if a pair lies between them.
        deconvolution_int8: ConvTranspose has INT8 kernels.
        average_window: an average pool has an INT8 kernel only with a window of this size in each dimension and
            stride 1; 0 if it has one for every window.
        max_pool_dimensions: a MaxPool has an INT8 kernel with at most this number of spatial dimensions.
        float_epilogues: the kernel of a floating-point convolution is generated with the element-wise nodes downstream.
        gates_by_timing: x * f(x), such as SiLU, fuses with the INT8 layer upstream only where TensorRT finds it faster.
    """

    name: str
    title: str
    opset: int
    strong: bool
    fp16: bool
    deconvolution_axis: int
    group_channels: int
    depthwise_channels: int
    weights_as_output: bool
    joined: str
    pairs_inside: bool
    unmoved: frozenset[str]
    undequantized: frozenset[str]
    padding_over_pair: bool
    deconvolution_int8: bool
    average_window: int
    max_pool_dimensions: int
    float_epilogues: bool
    gates_by_timing: bool

    @property
    def of_libraries(self) -> Target:
        """The same generation as if it generated kernels for element-wise operators only, as TensorRT 8 does."""
        return replace(self, joined="elementwise", pairs_inside=False)

    @staticmethod
    def named(name: str = DEFAULT) -> Target:
        """Returns the target of that name.

        Raises:
            ModelError: the name is unknown; the message lists the known names.
        """
        if name not in NAMES:
            raise ModelError(unknown("target", name, NAMES))
        return _read(name)


@cache
def _read(name: str) -> Target:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return Target(
        name,
        data["title"],
        data["opset"]["newest"],
        data["typing"]["strong"],
        data["fp16"]["accepted"],
        data["deconvolution"]["axis"],
        data["groups"]["channels"],
        data["groups"]["depthwise"],
        data["weights"]["as_output"],
        data["kernels"]["joined"],
        data["pairs"]["inside"],
        frozenset(data["moves"]["not"]),
        frozenset(data["dequantize"]["not"]),
        data["padding"]["over_pair"],
        data["deconvolution_kernel"]["int8"],
        data["averages"]["window"],
        data["max_pools"]["dimensions"],
        data["epilogues"]["of_float"],
        data["gates"]["by_timing"],
    )
