"""`Samples`: inputs of a network, read one sample at a time, checked against the network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from ...errors import ModelError
from ...model.runtime import Feed
from ..few import Few
from .form import Input

Piece = tuple[str, Mapping[str, Any]]
"""What a source yields: where it comes from, for messages, and one array per input, with one or several samples."""
Source = Callable[[], Iterable[Piece]]
"""Begins a new pass over the data."""


@dataclass(eq=False)
class _Seen:
    """What the first complete pass showed."""

    digest: str = ""
    rounded: str = ""
    samples: int = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a network.

    Iterating reads the data again, one sample at a time, and yields one array per input by name, in the input's type
    and with its batch. The arrays of one input are cut at their first axis, and put together where the network's batch
    is larger.

    Attributes:
        source: begins a pass over the data.
        inputs: the network's inputs.
        description: where the samples come from and what was done to them, for people.
        limit: the number of samples, the first ones; None for all.
        expected: how many there will be, for messages; None if that is unknown before the first pass.

    Raises:
        ModelError: the limit is not positive; while iterating: an array is missing, or has another shape or type than
            its input, or contains NaN or infinity; the data contain no whole sample, fewer than the limit, or other
            values than in the first pass.
    """

    source: Source
    inputs: tuple[Input, ...]
    description: str
    limit: int | None = None
    expected: int | None = None
    _seen: _Seen = field(default_factory=_Seen)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ModelError(f"{self.limit} samples: give a number above zero")

    def __iter__(self) -> Iterator[Feed]:
        digest, rounded, count = hashlib.sha256(), hashlib.sha256(), 0
        for feed in islice(self._feeds(), self.limit):
            count += 1
            for name, array in feed.items():
                _add(digest, name, array)
                _add(rounded, name, _half(array))
            yield feed
        if not count:
            raise ModelError(f"{self.description}: no samples{self._batch()}")
        if self.limit is not None and count < self.limit:
            raise ModelError(f"{self.description}: {count} samples, and {self.limit} were asked for: ask for fewer")
        found = digest.hexdigest()
        if self._seen.samples and (count, found) != (self._seen.samples, self._seen.digest):
            raise ModelError(
                f"{self.description}: other samples than in the pass before; the data must be the same each time "
                "(a function: a fixed seed, and no shuffling)"
            )
        self._seen.digest, self._seen.rounded, self._seen.samples = found, rounded.hexdigest(), count

    def __len__(self) -> int:
        return self._complete().samples

    @property
    def digest(self) -> str:
        """sha256 of names, types, shapes and values of all samples; known after one pass, which it makes if needed."""
        return self._complete().digest

    @property
    def rounded_digest(self) -> str:
        """The same with floating-point values rounded to FP16: equal for a network and its FP16 twin."""
        return self._complete().rounded

    @property
    def count(self) -> int | None:
        """The number of samples, as far as it is known without a pass."""
        return self.expected or self._seen.samples or self.limit

    def _complete(self) -> _Seen:
        if not self._seen.samples:
            for _ in self:
                pass
        return self._seen

    def _batch(self) -> str:
        most = max((i.rows for i in self.inputs), default=1)
        return f"; the model's batch is {most}, and there are fewer" if most > 1 else ""

    def _feeds(self) -> Iterator[Feed]:
        """Cuts and groups the arrays of the source into samples."""
        waiting: dict[str, list[np.ndarray]] = {i.name: [] for i in self.inputs}
        for where, arrays in self.source():
            missing = [i.name for i in self.inputs if i.name not in arrays]
            if missing:
                names = sorted(i.name for i in self.inputs)
                raise ModelError(f"{where}: contains {sorted(arrays)}, but the model's inputs are {names}")
            rows = {i.name: i.batched(arrays[i.name], where) for i in self.inputs}
            if len(counts := {i.samples(rows[i.name]) for i in self.inputs if i.rows}) > 1:
                raise ModelError(f"{where}: the arrays contain different numbers of samples: {sorted(counts)}")
            yield from self._whole(rows, waiting, where)

    def _whole(
        self, rows: Mapping[str, np.ndarray], waiting: Mapping[str, list[np.ndarray]], where: str
    ) -> Iterator[Feed]:
        """The samples that are complete with these rows; what remains waits for the next ones."""
        done = dict.fromkeys(rows, 0)
        while True:
            feed: Feed = {}
            for i in self.inputs:
                start, lacking = done[i.name], i.rows - sum(map(len, waiting[i.name])) if i.rows else 0
                part = rows[i.name][start : start + lacking] if i.rows else rows[i.name]
                if i.rows and len(part) < lacking:
                    break
                feed[i.name] = part
            else:
                for i in self.inputs:
                    done[i.name] += len(feed[i.name]) if i.rows else 0
                    joined = [*waiting[i.name], feed[i.name]]
                    waiting[i.name].clear()
                    feed[i.name] = i.checked(np.concatenate(joined) if len(joined) > 1 else joined[0], where)
                yield feed
                if any(i.rows for i in self.inputs):
                    continue
                return
            for i in self.inputs:
                if i.rows and done[i.name] < len(rows[i.name]):
                    waiting[i.name].append(np.array(rows[i.name][done[i.name] :]))
            return


def _add(digest: hashlib._Hash, name: str, array: np.ndarray) -> None:
    digest.update(f"{name} {array.dtype} {array.shape} ".encode())
    if array.dtype.hasobject:  # the values of an input of type string
        digest.update(repr(array.tolist()).encode())
        return
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _half(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float16)


def of_all(feeds: Iterable[object]) -> str:
    """How many samples there are, for a message about one of them: " of 8"; "" if that is not known yet."""
    if isinstance(feeds, Few):
        return f" of {len(feeds)}"
    count = feeds.count if isinstance(feeds, Samples) else None
    return f" of {count}" if count else ""
