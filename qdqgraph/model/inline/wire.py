"""`spliced`: a serialized protobuf message in which some fields get another content.

Source of the encoding: https://protobuf.dev/programming-guides/encoding. Of the field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types. Groups, 3 and 4, do not occur in ONNX."""
SHORT = 5
"""Bytes of the longest tag or length, which have 32 bits."""
LONG = 10
"""Bytes of the longest number, which has 64 bits."""


class Buffer(Protocol):
    """The bytes of a message, in memory or in a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> int: ...

    def cut(self, start: int, stop: int, /) -> bytes:
        """The bytes between two positions."""


class IrregularError(Exception):
    """The bytes are not a message of the usual form: protobuf says what is wrong, if anything is."""


@dataclass(frozen=True)
class Message:
    """The fields of a message that may contain what is replaced.

    Attributes:
        inner: the messages in it, by field number.
        content: the field that is replaced; 0 if there is none.
    """

    inner: Mapping[int, Message] = field(default_factory=dict)
    content: int = 0


TENSOR = Message(content=9)
"""TensorProto: raw_data = 9."""
MODEL = Message({7: Message({5: TENSOR})})
"""ModelProto: graph = 7; GraphProto: initializer = 5."""


class Sized(Protocol):
    """What takes the place of bytes."""

    def __len__(self) -> int: ...


S = TypeVar("S", bound=Sized)


@dataclass(frozen=True)
class Splice(Generic[S]):
    """A message, and what to replace in it.

    Attributes:
        data: the serialized message.
        wanted: whether something between two positions is replaced.
        replace: what takes the place of the content between two positions.
    """

    data: Buffer
    wanted: Callable[[int, int], bool]
    replace: Callable[[int, int], S]

    def pieces(self, kind: Message) -> list[bytes | S]:
        """The new message, in pieces.

        Raises:
            IrregularError: as its docstring.
        """
        return self._message(0, len(self.data), kind)

    def _message(self, start: int, end: int, kind: Message) -> list[bytes | S]:
        found: list[bytes | S] = []
        place = kept = start
        while place < end:
            begun = place
            tag, place = self._number(place, end, SHORT)
            number, form = tag >> 3, tag & 7
            if not number:
                raise IrregularError
            if form == LENGTH:
                length, place = self._number(place, end, SHORT)
                stop = place + length
                inner = kind.inner.get(number)
                if stop <= end and (inner is not None or number == kind.content) and self.wanted(place, stop):
                    new = [self.replace(place, stop)] if inner is None else self._message(place, stop, inner)
                    head = varint(tag) + varint(length)
                    if self.data.cut(begun, place) != head:
                        raise IrregularError
                    found += [self.data.cut(kept, begun), varint(tag) + varint(sum(map(len, new))), *new]
                    kept = stop
                place = stop
            elif form == VARINT:
                _, place = self._number(place, end, LONG)
            elif form in (FIXED64, FIXED32):
                place += 8 if form == FIXED64 else 4
            else:
                raise IrregularError
            if place > end:
                raise IrregularError
        found.append(self.data.cut(kept, end))
        return found

    def _number(self, place: int, end: int, longest: int) -> tuple[int, int]:
        """The number at a position, and the position after it."""
        data, value, shift = self.data, 0, 0
        for position in range(place, min(end, place + longest)):
            byte = data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position + 1
            shift += 7
        raise IrregularError


class Serialized(bytes):
    """A message in memory."""

    def cut(self, start: int, stop: int) -> bytes:
        """As `Buffer.cut`."""
        return self[start:stop]


def varint(number: int) -> bytes:
    """A number of 0 or more as protobuf writes it."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
