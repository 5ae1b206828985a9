"""`Pair`: a QuantizeLinear and the DequantizeLinears that read it, and the site that it quantizes.

`scale` is always ONNX's: amax / 127 for symmetric INT8 (see `amax`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from ..errors import ModelError
from ..model.protos import is_standard
from ..operators import PAIRS
from .array_types import is_floating, type_of
from .graph import Graph, input_name, key
from .quantization import LATE

Kind = Literal["activation", "weight", "bias"]


def bits_lost(new: float, own: float) -> float:
    """Resolution lost at a site: log2(new scale / its own scale); negative if the new range clips."""
    return math.log2(new / own)


SCALE_TYPES = frozenset({"float32", "float16", "bfloat16"})
"""Types of scales; float32 represents the values of all of them."""

HALF = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
"""Types of 16 bits that a scale may have from opset 19."""

BFLOAT16_STEP = 2.0**-8
"""At least twice the rounding error of a BF16 number, relative to it."""

PER_CHANNEL = 13
"""The first opset whose Q/DQ accept per-channel scales."""


def equal_numbers(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays of the same size have the same elements: bit for bit in one type; in two floating-point types
    as numbers, which a half-precision model may have for one scale."""
    if first.dtype == second.dtype:
        return first.tobytes() == second.tobytes()
    both = {str(first.dtype), str(second.dtype)} <= SCALE_TYPES
    return both and bool(np.array_equal(first.astype(np.float32).reshape(-1), second.astype(np.float32).reshape(-1)))


def rounded_equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays of floating-point types are equal, or one is the other rounded to its type: one scale that an
    exporter wrote in two types. Where the narrow type has few bits left (FP16 below 6e-5), the two are not equal."""
    if equal_numbers(first, second):
        return True
    if first.size != second.size or not {str(first.dtype), str(second.dtype)} <= SCALE_TYPES:
        return False
    one, two = (array.reshape(-1) for array in (first, second))
    a, b = (array.astype(np.float64) for array in (one, two))
    with np.errstate(over="ignore"):
        rounds = np.array_equal(one.astype(two.dtype), two) or np.array_equal(two.astype(one.dtype), one)
    return rounds and bool((np.abs(a - b) <= np.abs(a) * BFLOAT16_STEP).all())


def is_pair(node: gs.Node) -> bool:
    """Whether the node is a QuantizeLinear or DequantizeLinear, of any domain."""
    return node.op in PAIRS


@dataclass(frozen=True, eq=False)
class Pair:
    """One quantization of one tensor.

    Attributes:
        tensor: the quantized tensor: the input of the QuantizeLinear, or, without one, of the DequantizeLinears.
        site: the tensor that the pair quantizes, seen through the pairs upstream of it (see `Pairs.root`).
        quantize: the QuantizeLinear; None if the file stores the integers.
        dequantizes: every DequantizeLinear that reads the integers, in file order.
        scale: the scale's value, shape [] or [1] for per-tensor, [C] per channel; None if it is not constant.
        zero_point: the zero-point's value; zero of the integers' type if a DequantizeLinear has none; None if unknown.
        axis: the axis attribute as written; None if absent (ONNX then uses 1).
        kind: weight (computed from constants), bias (INT32 constants), activation (anything else).
    """

    tensor: str
    site: str
    quantize: gs.Node | None
    dequantizes: tuple[gs.Node, ...]
    scale: np.ndarray | None
    zero_point: np.ndarray | None
    axis: int | None
    kind: Kind
    agrees: bool
    """Every DequantizeLinear has the zero-point of the QuantizeLinear, bit for bit, and the same scale: bit for bit,
    or, in two floating-point types, but for rounding to one of them."""
    scale_types: frozenset[str]
    """The types of the scales of its nodes: in a half-precision model one pair may have float16 and float32."""
    pinned: bool
    """The integers are an input, an output, or read by another node: the scale cannot change."""

    @property
    def nodes(self) -> tuple[gs.Node, ...]:
        """The pair's nodes, QuantizeLinear first."""
        return ((self.quantize,) if self.quantize is not None else ()) + self.dequantizes

    @cached_property
    def key(self) -> str:
        """The key of the pair's first node."""
        return key(self.nodes[0])

    @cached_property
    def blocked(self) -> bool:
        """Whether the scales apply to blocks along an axis (`block_size`)."""
        return any(node.attrs.get("block_size") for node in self.nodes)

    @property
    def channels(self) -> int:
        """The axis of per-channel scales; 1, ONNX's default, if the pair has no axis."""
        return 1 if self.axis is None else self.axis

    @cached_property
    def per_tensor(self) -> bool:
        """Whether it has one constant scale for the whole tensor."""
        return self.scale is not None and self.scale.size == 1

    @cached_property
    def value(self) -> float:
        """The per-tensor scale as a float (exact: a float32 or float16 fits)."""
        assert self.scale is not None
        return float(self.scale.reshape(-1)[0])

    @cached_property
    def symmetric(self) -> bool:
        """Whether every zero-point is zero."""
        return self.zero_point is None or not self.zero_point.any()

    @cached_property
    def tieable(self) -> bool:
        """Whether it is a plain per-tensor symmetric 8-bit activation pair, whose scale a tie may change."""
        return (
            self.kind == "activation"
            and self.agrees
            and self.per_tensor
            and self.symmetric
            and math.isfinite(self.value)
            and self.value > 0
            and (self.zero_point is None or self.zero_point.dtype in (np.int8, np.uint8))
        )

    @cached_property
    def types(self) -> tuple[str, str]:
        """(scale dtype of the first node, integer dtype): pairs with different integers cannot share a scale."""
        integer = "uint8" if self.zero_point is None else type_of(self.zero_point.dtype)
        return (type_of(self.scale.dtype) if self.scale is not None else "?", integer)

    @cached_property
    def scale_key(self) -> bytes:
        """The scale as a number, the zero-point and the type of the integers: equal if equal integers represent equal
        values. Unique if the scale is unknown, or another one where the integers are dequantized."""
        if self.scale is None or not self.agrees:
            return self.key.encode()
        zero = b"" if self.symmetric or self.zero_point is None else self.zero_point.tobytes()
        return self.scale.astype(np.float32).tobytes() + b"|" + zero + b"|" + self.types[1].encode()

    def same_quantization(self, other: Pair) -> bool:
        """Whether both are tieable and quantize identically: scales of equal value, integers of one type."""
        alike = self.tieable and other.tieable and self.types[1] == other.types[1]
        return alike and self.value == other.value


def required_opset(graph: Graph, node: gs.Node) -> int:
    """The lowest standard opset that can express a QuantizeLinear or DequantizeLinear; 0 if any opset with Q/DQ can.

    Per-channel scales and their axis need opset 13; scales in FP16 or BF16 need 19, unless the target accepts none.
    16-bit and 4-bit integers, which onnxruntime writes in its own domain before, and blocks need 21; FP8 needs 19.
    """
    zero = input_name(node, 2)
    kind = graph.dtype(zero or node.inputs[0].name) or node.attrs.get("output_dtype", 0)
    late = max(LATE.get(kind, 0), 21 if node.attrs.get("block_size") else 0)
    if late:
        return late
    if graph.dtype(input_name(node, 1)) in HALF and graph.target.fp16:
        return 19
    scale = graph.value(node.inputs[1].name) if len(node.inputs) > 1 else None
    plain = node.attrs.get("axis") is None and (scale is None or scale.size == 1)
    return 0 if plain and is_standard(node) else PER_CHANNEL


class Pairs:
    """All pairs of a graph, by site, by node and by output tensor."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._casts = graph, graph.casts
        self._of: dict[str, Pair] = {}
        self._made: dict[str, Pair] = {}
        self._at: dict[str, list[Pair]] = {}
        self._tieable: dict[str, tuple[Pair, ...]] = {}
        self._scales: dict[str, dict[float, None]] = {}
        self._roots: dict[str, str] = {}
        self._all: list[Pair] = []
        for node in graph.nodes("QuantizeLinear", "DequantizeLinear"):
            if key(node) in self._of or (node.op == "DequantizeLinear" and self._has_quantize(node)):
                continue
            pair = self._read(node)
            self._all.append(pair)
            self._of.update((key(member), pair) for member in pair.nodes)
            self._made.update((key(member), pair) for member in pair.dequantizes)
            self._at.setdefault(pair.site, []).append(pair)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def of(self, node: gs.Node) -> Pair | None:
        """The pair that a QuantizeLinear or DequantizeLinear belongs to; None for any other node."""
        return self._of.get(key(node))

    def divided(self) -> Iterator[tuple[str, tuple[Pair, ...]]]:
        """Sites whose own pairs have different scales, with the pairs; in file order."""
        for site in self._at:
            mine = self.at(site)
            if len({p.value for p in mine}) > 1:
                yield site, mine

    def at(self, site: str) -> tuple[Pair, ...]:
        """Tieable activation pairs of the site, in file order."""
        if site not in self._tieable:
            self._tieable[site] = tuple(p for p in self._at.get(site, ()) if p.tieable)
        return self._tieable[site]

    def scales(self, site: str) -> Mapping[float, None]:
        """The distinct scales of the tieable pairs of the site, in ascending order."""
        if site not in self._scales:
            self._scales[site] = dict.fromkeys(sorted({p.value for p in self.at(site)}))
        return self._scales[site]

    def made(self, tensor: str) -> Pair | None:
        """The pair whose DequantizeLinear produces the tensor."""
        return self._made.get(self._casts.get(tensor, tensor))

    def root(self, tensor: str) -> str:
        """The site of a tensor: the tensor itself, seen through the tieable pairs upstream of it."""
        tensor = self._casts.get(tensor, tensor)
        return self._roots.get(tensor, tensor)

    def _has_quantize(self, node: gs.Node) -> bool:
        source = self._graph.producer(node.inputs[0].name)
        return source is not None and source.op == "QuantizeLinear" and is_standard(source)

    def _read(self, node: gs.Node) -> Pair:
        graph = self._graph
        quantize = node if node.op == "QuantizeLinear" else None
        tensor = node.inputs[0].name
        integers = key(node) if quantize else tensor
        readers = graph.readers(integers)
        mine = tuple(r.node for r in readers if r.node.op == "DequantizeLinear" and r.index == 0)
        # Several DequantizeLinears may read one integer weight with different scales: each is then a pair.
        alone = quantize is None and len(mine) > 1 and any(_reading(d) != _reading(node) for d in mine)
        dequantizes = (node,) if alone else mine
        scale = graph.value(node.inputs[1].name) if len(node.inputs) > 1 else None
        if scale is not None and not is_floating(scale.dtype):
            raise ModelError(f"the scale of '{tensor}' has the type {scale.dtype}; scales are floating-point numbers")
        zero_name = input_name(node, 2)
        zero_point = graph.value(zero_name) if zero_name else _default_zero_point(graph, node, integers)
        for what, given in (("scale", scale), ("zero-point", zero_point)):
            if given is not None and not given.size:
                raise ModelError(f"the {what} of '{tensor}' is an empty tensor; it needs one value, or one per channel")
        constant = graph.is_constant(tensor)
        kind: Kind = "weight" if constant else "activation"
        if constant and quantize is None and graph.dtype(tensor) == onnx.TensorProto.INT32:
            kind = "bias"
        pinned = quantize is None or integers in graph.outputs or len(mine) < len(readers)
        agrees = quantize is None or all(_agree(graph, node, d) for d in dequantizes)
        site = self.root(tensor) if quantize is not None else (key(node) if kind == "activation" else tensor)
        kinds = _scale_types(graph, (*(() if quantize is None else (quantize,)), *dequantizes))
        pair = Pair(tensor, site, quantize, dequantizes, scale, zero_point, _axis(node), kind, agrees, kinds, pinned)
        if pair.tieable:
            for dequantize in dequantizes:
                self._roots[key(dequantize)] = site
        return pair


def pairs(graph: Graph) -> Pairs:
    """The graph's pairs, found once."""
    return graph.once(Pairs)


def _axis(node: gs.Node) -> int | None:
    axis = node.attrs.get("axis")
    return None if axis is None else int(axis)


def _parameters(node: gs.Node) -> tuple[str, ...]:
    return tuple(t.name for t in node.inputs[1:])


def _reading(node: gs.Node) -> tuple[object, ...]:
    """What a DequantizeLinear reads its integers with."""
    return _parameters(node), _channels(node)


def _scale_types(graph: Graph, nodes: Iterable[gs.Node]) -> frozenset[str]:
    values = (graph.value(name) for name in {input_name(node, 1) for node in nodes} if name)
    return frozenset(type_of(value.dtype) for value in values if value is not None)


def _channels(node: gs.Node) -> tuple[object, object]:
    """The axis and block size of the scales; irrelevant for a per-tensor scale."""
    return node.attrs.get("axis", 1), node.attrs.get("block_size", 0)


def _agree(graph: Graph, quantize: gs.Node, dequantize: gs.Node) -> bool:
    """Whether a DequantizeLinear has the scale and zero-point of its QuantizeLinear (see `rounded_equal`)."""
    if _channels(quantize) != _channels(dequantize):
        scale = graph.value(quantize.inputs[1].name) if len(quantize.inputs) > 1 else None
        if scale is None or scale.size > 1:
            return False
    ours, theirs = _parameters(quantize), _parameters(dequantize)
    if ours == theirs:
        return True
    for index in range(2):
        names = [p[index] if len(p) > index else "" for p in (ours, theirs)]
        a, b = (graph.value(name) if name else None for name in names)
        if names[0] == names[1]:
            continue
        if index == 1 and "" in names:  # an absent zero-point means zero
            given = b if a is None else a
            if given is None or given.any():
                return False
        elif a is None or b is None or not rounded_equal(a, b):
            return False
    return True


def _default_zero_point(graph: Graph, node: gs.Node, integers: str) -> np.ndarray | None:
    """The zero-point of a node without that input: zero in the type of its integers; None if that type is unknown."""
    if node.op == "QuantizeLinear":
        wanted = node.attrs.get("output_dtype")
        return None if not wanted else np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(int(wanted)))
    dtype = graph.dtype(integers)
    return None if dtype is None else np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(dtype))
