"""`Data`: what a file of external data contains, read in blocks: a whole file, or parts of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20
"""Bytes that are read at once."""
PAGE = 4096
"""Parts begin at multiples of this, so that a program can map them:
https://github.com/onnx/onnx/blob/main/docs/ExternalData.md"""


@dataclass(frozen=True)
class Data:
    """The content of a file to write.

    Attributes:
        file: the file that it comes from.
        parts: offset and length of each part that is taken, in the order of the new file.
    """

    file: Path
    parts: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, file: Path) -> Data:
        """The whole content of a file.

        Raises:
            OSError: there is no such file.
        """
        return cls(file, ((0, file.stat().st_size),))

    def offsets(self) -> dict[int, int]:
        """The offset of each part in the new file, by that in the old one."""
        found, end = dict[int, int](), 0
        for offset, length in self.parts:
            found[offset] = -(-end // PAGE) * PAGE
            end = found[offset] + length
        return found

    def blocks(self) -> Iterator[bytes]:
        """Yields the content of the new file.

        Raises:
            OSError: the file cannot be read, or is shorter than its parts.
        """
        offsets, end = self.offsets(), 0
        with self.file.open("rb") as file:
            for offset, length in self.parts:
                yield bytes(offsets[offset] - end)
                file.seek(offset)
                left = length
                while left:
                    if not (block := file.read(min(BLOCK, left))):
                        raise OSError(f"{self.file} became shorter while it was read")
                    left -= len(block)
                    yield block
                end = offsets[offset] + length

    def equals(self, other: Path) -> bool:
        """Whether a file has this content.

        Raises:
            OSError: it cannot be read.
        """
        with other.open("rb") as file:
            return all(file.read(len(block)) == block for block in self.blocks()) and not file.read(1)
