"""`Half`: every second sample, so that one half of the data judges what was computed from the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..errors import CalibrationError
from ..model.runtime import Feeds

LEAST = 2
"""Samples: one in each half."""


@dataclass(frozen=True, eq=False)
class Half:
    """Every second sample, beginning with the one at `start`."""

    feeds: Feeds
    start: int

    @classmethod
    def both(cls, feeds: Feeds) -> tuple[Half, Half]:
        """The given half, from which corrections are computed, and the held-back one, which judges them.

        Raises:
            CalibrationError: there are fewer than `LEAST` samples.
        """
        if len(feeds) < LEAST:
            raise CalibrationError(
                f"a correction needs {LEAST} samples or more, because one half judges what is computed from the other; "
                f"the data have {len(feeds)}"
            )
        return cls(feeds, 0), cls(feeds, 1)

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        return islice(iter(self.feeds), self.start, None, 2)

    def __len__(self) -> int:
        return (len(self.feeds) + 1 - self.start) // 2
