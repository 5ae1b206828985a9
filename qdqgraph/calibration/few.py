"""`Few`: some samples of many, for what compares instead of collecting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..model.runtime import Feeds


@dataclass(frozen=True, eq=False)
class Few:
    """At most `most` of the samples, evenly spread over them, the first one included.

    Attributes:
        feeds: the samples.
        most: how many at most.
    """

    feeds: Feeds
    most: int

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        all_of_them, few = len(self.feeds), len(self)
        wanted = {index * all_of_them // few for index in range(few)}
        return (feed for index, feed in enumerate(self.feeds) if index in wanted)

    def __len__(self) -> int:
        return min(self.most, len(self.feeds))
