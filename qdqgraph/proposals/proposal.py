"""What a rule may propose: a `Rewire`, a `Retype`, a `PlacePair`, a `SetPair` or a `Graft`.

Proposals name tensors and node inputs, never positions, so the proposals of many rules can be applied in one round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from ..model.writing.spill import tensor_of, value_of

NodeInput = tuple[str, int]
"""A node's key (its first output) and the index of one of its inputs."""


@dataclass(frozen=True)
class Rewire:
    """Let a node input read another existing tensor. Q, DQ and constants without a reader are removed."""

    reader: NodeInput
    tensor: str


@dataclass(frozen=True)
class Retype:
    """Let a node input read its tensor in another floating-point type: directly or through an existing Cast if the
    tensor exists in that type, as a converted initializer, else through a new Cast.

    Attributes:
        reader: the node input.
        kind: the `onnx.TensorProto` data type.
    """

    reader: NodeInput
    kind: int


@dataclass(frozen=True)
class PlacePair:
    """Let readers of a tensor read it through one pair: its first pair, or a new one after its producer with the scale
    of its group.

    Attributes:
        tensor: the tensor that the pair quantizes.
        readers: node inputs that read it unquantized now.
        like: the site whose scale the pair gets; the tensor itself by default.
        agree: downstream tensors: every Q that their unquantized values reach must have that scale, or the pair would
            add a rounding.
        calibrate: no scale in the graph fits the tensor, so its scale must come from data; a repair of the file adds
            nothing.
    """

    tensor: str
    readers: tuple[NodeInput, ...]
    like: str = ""
    agree: tuple[str, ...] = ()
    calibrate: bool = False


@dataclass(frozen=True)
class Constant:
    """An array as a comparable value: a serialized TensorProto without a name."""

    data: bytes

    @classmethod
    def of(cls, array: np.ndarray) -> Constant:
        """The constant with this array as its value."""
        return cls(tensor_of(np.ascontiguousarray(array).reshape(array.shape)).SerializeToString())

    @property
    def array(self) -> np.ndarray:
        """The array."""
        return value_of(onnx.TensorProto.FromString(self.data))


@dataclass(frozen=True)
class SetPair:
    """Replace the parameters of a pair.

    Attributes:
        nodes: keys of the pair's QuantizeLinear and DequantizeLinears.
        scale, zero_point: of shape [] or, per channel, [C].
        axis: the channel axis; None for one scale.
        integers: the new integer weights that the DequantizeLinears read; None if the file stores none, or they do not
            change.
    """

    nodes: tuple[str, ...]
    scale: Constant
    zero_point: Constant
    axis: int | None = None
    integers: Constant | None = None


@dataclass(frozen=True)
class Graft:
    """Replace nodes by others that produce the same tensors, or insert nodes before readers.

    Attributes:
        nodes: the nodes to write, as serialized NodeProtos; they read tensors of the graph, constants and `fresh`
            tensors.
        new: indices of those that are not a changed version of a node in the graph.
        fresh: names of tensors that only the new nodes use; made unique when they are written.
        replaced: keys of the nodes that they replace.
        unread: keys of nodes that are removed too if nothing reads them any more.
        rewires: readers that read another tensor afterwards.
        reads: every node input that the replacement relies on.
    """

    nodes: tuple[bytes, ...]
    new: tuple[int, ...]
    fresh: tuple[str, ...]
    replaced: tuple[str, ...]
    unread: tuple[str, ...]
    rewires: tuple[Rewire, ...]
    reads: tuple[NodeInput, ...]


Proposal = Rewire | Retype | PlacePair | SetPair | Graft


def touched(proposal: Proposal) -> tuple[NodeInput, ...]:
    """The node inputs that a proposal changes, or relies on while it replaces nodes."""
    if isinstance(proposal, Rewire | Retype):
        return (proposal.reader,)
    if isinstance(proposal, PlacePair):
        return proposal.readers
    if isinstance(proposal, Graft):
        return tuple(dict.fromkeys((*proposal.reads, *(r.reader for r in proposal.rewires))))
    return tuple((node, index) for node in proposal.nodes for index in (0, 1, 2))


def changed(proposal: Proposal) -> tuple[NodeInput, ...]:
    """The node inputs of `touched` that the proposal changes or removes; on the others it relies, as others may."""
    if not isinstance(proposal, Graft):
        return touched(proposal)
    gone = {*proposal.replaced, *proposal.unread}
    reads = [read for read in proposal.reads if read[0] in gone]
    return tuple(dict.fromkeys((*reads, *(r.reader for r in proposal.rewires))))
