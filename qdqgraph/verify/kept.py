"""`Kept`: outputs of samples, in the memory while they are small, else in a temporary file."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from os import SEEK_END
from tempfile import SpooledTemporaryFile
from typing import Any

MEMORY = 64 << 20
"""Bytes of outputs that stay in the memory: those of many samples, or of a detector on large pictures, may not fit."""


class Kept:
    """The outputs of each sample, as ONNX Runtime returns them. Usable as a context manager.

    Args:
        runs: the outputs of the first samples.
    """

    def __init__(self, runs: Iterable[Sequence[Any]] = ()) -> None:
        self._file, self._samples = SpooledTemporaryFile[bytes](MEMORY), list[int]()
        try:
            for outputs in runs:
                self.add(outputs)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, outputs: Sequence[Any]) -> None:
        """Keeps the outputs of the next sample."""
        self._samples.append(self._file.seek(0, SEEK_END))
        pickle.dump(list(outputs), self._file, pickle.HIGHEST_PROTOCOL)

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[list[Any]]:
        for start in self._samples:  # several readers may take turns
            self._file.seek(start)
            yield pickle.load(self._file)
