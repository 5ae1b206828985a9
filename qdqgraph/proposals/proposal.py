"""What a rule may propose: a `Rewire`, a `PlacePair`, a `SetPair` or a `Graft`.

Proposals name tensors and node inputs only, never positions, so that the proposals of many rules can be applied in one
round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

NodeInput = tuple[str, int]
"""A node's key (its first output) and the index of one of its inputs."""


@dataclass(frozen=True)
class Rewire:
    """Let a node input read another existing tensor. Q, DQ and constants that nothing reads any more go."""

    reader: NodeInput
    tensor: str


@dataclass(frozen=True)
class PlacePair:
    """Let readers of a tensor read it through one pair: its first one where it has one, else a new one behind its
    producer, with the scale of its group.

    Attributes:
        tensor: where the pair stands.
        readers: node inputs that read it raw today.
        like: the site whose scale the pair takes; the tensor itself by default.
        agree: tensors behind: every Q that their raw values reach must have that scale, or the pair would round what
            is not rounded so today.
        calibrate: no scale in the graph fits the tensor, its own must come from data; a repair of the file leaves it.
    """

    tensor: str
    readers: tuple[NodeInput, ...]
    like: str = ""
    agree: tuple[str, ...] = ()
    calibrate: bool = False


@dataclass(frozen=True)
class Constant:
    """An array as a value that can be compared: a serialized TensorProto without a name."""

    data: bytes

    @classmethod
    def of(cls, array: np.ndarray) -> Constant:
        """The constant that holds this array."""
        return cls(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape)).SerializeToString())

    @property
    def array(self) -> np.ndarray:
        """The array again."""
        return numpy_helper.to_array(onnx.TensorProto.FromString(self.data))


@dataclass(frozen=True)
class SetPair:
    """Write the parameters of a pair anew.

    Attributes:
        nodes: keys of the pair's QuantizeLinear and DequantizeLinears.
        scale, zero_point: of shape [] or, per channel, [C].
        axis: the channel axis; None where there is one scale.
        integers: what the DequantizeLinears read from now on, where the file holds integer weights and they change.
    """

    nodes: tuple[str, ...]
    scale: Constant
    zero_point: Constant
    axis: int | None = None
    integers: Constant | None = None


@dataclass(frozen=True)
class Graft:
    """Put nodes in the place of others that make the same tensors.

    Attributes:
        nodes: the new nodes as serialized NodeProtos; what the graph has already they name, the rest is `fresh`.
        new: which of them, by index, no node of the graph goes on as.
        fresh: names that the new nodes make for each other; made unique when they are written.
        replaced: keys of the nodes whose place they take.
        unread: keys of nodes that go too, where nothing reads them any more.
        rewires: readers that go over to another tensor.
        reads: every node input that the replacement relies on.
    """

    nodes: tuple[bytes, ...]
    new: tuple[int, ...]
    fresh: tuple[str, ...]
    replaced: tuple[str, ...]
    unread: tuple[str, ...]
    rewires: tuple[Rewire, ...]
    reads: tuple[NodeInput, ...]


Proposal = Rewire | PlacePair | SetPair | Graft


def touched(proposal: Proposal) -> tuple[NodeInput, ...]:
    """The node inputs that a proposal changes, or relies on while it replaces nodes."""
    if isinstance(proposal, Rewire):
        return (proposal.reader,)
    if isinstance(proposal, PlacePair):
        return proposal.readers
    if isinstance(proposal, Graft):
        return tuple(dict.fromkeys((*proposal.reads, *(r.reader for r in proposal.rewires))))
    return tuple((node, index) for node in proposal.nodes for index in (0, 1, 2))
