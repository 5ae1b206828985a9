"""The places of cards: layers by longest path, ordered by barycentres, each card near those that it is joined to.

A tensor that skips layers passes them in a lane that all its readers share, so that its line crosses no card.

Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system structures", IEEE
Transactions on Systems, Man and Cybernetics 11 (1981); the places within a layer are an isotonic regression.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...graph.components import components

GAP, BETWEEN, LANE = 18, 20, 8
"""Pixels between cards of a layer, between layers, and the width of a lane."""
SHELF = 1400
"""Pixels: the width that separate parts fill before others are placed below them."""
SWEEPS = 8
STRAIGHT = 8.0
"""Weight of a lane that continues, so that long lines are straight."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Places:
    """Where everything is, in pixels.

    Attributes:
        cards: top left corner of each card.
        trunks: for each card with lanes, the points of their line from the card on: pairs of top and bottom.
        starts: for each wire, the point that it comes from: a card, or the lane of its source.
        ends: for each wire, the point where it meets its target.
        width, height: of all.
    """

    cards: tuple[Point, ...]
    trunks: Mapping[int, tuple[Point, ...]]
    starts: tuple[Point, ...]
    ends: tuple[Point, ...]
    width: float
    height: float


def places(heights: Sequence[int], width: int, wires: Sequence[tuple[int, int]]) -> Places:
    """The places of cards of one width. Parts that no wire joins are beside each other as far as they fit in `SHELF`,
    the others below.

    Args:
        heights: the height of each card, sources before readers.
        width: of every card.
        wires: (source, reader) by index; the source is smaller.
    """
    cards: dict[int, Point] = {}
    trunks: dict[int, tuple[Point, ...]] = {}
    starts: dict[int, Point] = {}
    ends: dict[int, Point] = {}
    x = y = low = right = 0.0
    for members, joined in _parts(len(heights), wires):
        local = {index: n for n, index in enumerate(members)}
        inner = [(local[wires[n][0]], local[wires[n][1]]) for n in joined]
        part = _places([heights[i] for i in members], width, inner)
        if x and x + part.width > SHELF:
            x, y = 0.0, low + BETWEEN
        at = _mover(x, y)
        cards.update(zip(members, map(at, part.cards), strict=True))
        trunks.update((members[n], tuple(map(at, points))) for n, points in part.trunks.items())
        starts.update(zip(joined, map(at, part.starts), strict=True))
        ends.update(zip(joined, map(at, part.ends), strict=True))
        x, low, right = x + part.width + GAP, max(low, y + part.height), max(right, x + part.width)
    return Places(_listed(cards), trunks, _listed(starts), _listed(ends), right, low)


def _mover(x: float, y: float) -> Callable[[Point], Point]:
    return lambda point: (point[0] + x, point[1] + y)


def _listed(points: Mapping[int, Point]) -> tuple[Point, ...]:
    return tuple(points[index] for index in range(len(points)))


def _parts(count: int, wires: Sequence[tuple[int, int]]) -> Iterator[tuple[list[int], list[int]]]:
    """The cards that wires join, and those wires, as indices; parts in the order of their first card."""
    for part in components([*((card,) for card in range(count)), *wires]):
        yield [index for index in part if index < count], [index - count for index in part if index >= count]


def _places(heights: Sequence[int], width: int, wires: Sequence[tuple[int, int]]) -> Places:
    """The places of cards that wires join."""
    ranks = _ranks(len(heights), wires)
    rows, lanes, joined = _rows(ranks, wires)
    wide = [width] * len(heights) + [LANE] * (sum(map(len, rows)) - len(heights))
    _order(rows, joined)
    x = _spread_all(rows, joined, wide, len(heights))
    left = min((x[i] - wide[i] / 2 for i in range(len(wide))), default=0.0)
    tops, bottoms, y = [], [], 0.0
    for row in rows:
        tall = max((heights[i] for i in row if i < len(heights)), default=0)
        tops.append(y)
        bottoms.append(y + tall)
        y += tall + BETWEEN
    cards = tuple((x[i] - width / 2 - left, tops[ranks[i]]) for i in range(len(heights)))
    trunks = {
        source: tuple(
            point
            for rank, lane in sorted(mine.items())
            for point in ((x[lane] - left, tops[rank]), (x[lane] - left, bottoms[rank]))
        )
        for source, mine in lanes.items()
    }
    starts = []
    for source, target in wires:
        lane = lanes.get(source, {}).get(ranks[target] - 1)
        own = (cards[source][0] + width / 2, cards[source][1] + heights[source])
        starts.append(own if lane is None else (x[lane] - left, bottoms[ranks[target] - 1]))
    ends = tuple((cards[target][0] + width / 2, cards[target][1]) for _, target in wires)
    right = max((x[i] + wide[i] / 2 for i in range(len(wide))), default=0.0)
    return Places(cards, trunks, tuple(starts), ends, right - left, max(0.0, y - BETWEEN))


def _ranks(count: int, wires: Iterable[tuple[int, int]]) -> list[int]:
    """The layer of each card: its longest path from a source; a source is directly above its first reader."""
    ranks, first = [0] * count, dict[int, int]()
    ordered = sorted(wires, key=lambda wire: wire[1])
    for source, target in ordered:
        ranks[target] = max(ranks[target], ranks[source] + 1)
    for source, target in ordered:
        first[source] = min(first.get(source, count), ranks[target])
    reads = {target for _, target in ordered}
    return [rank if i in reads or i not in first else first[i] - 1 for i, rank in enumerate(ranks)]


def _rows(
    ranks: Sequence[int], wires: Sequence[tuple[int, int]]
) -> tuple[list[list[int]], dict[int, dict[int, int]], dict[int, list[int]]]:
    """The layers, the lanes of each card by layer, and what each card or lane is joined to above it."""
    rows: list[list[int]] = [[] for _ in range(1 + max(ranks, default=-1))]
    for index, rank in enumerate(ranks):
        rows[rank].append(index)
    deepest: dict[int, int] = {}
    for source, target in wires:
        deepest[source] = max(deepest.get(source, 0), ranks[target])
    lanes: dict[int, dict[int, int]] = {}
    above: dict[int, list[int]] = defaultdict(list)
    number = len(ranks)
    for source, last in sorted(deepest.items()):
        before = source
        for rank in range(ranks[source] + 1, last):
            lanes.setdefault(source, {})[rank] = number
            rows[rank].append(number)
            above[number].append(before)
            before, number = number, number + 1
    for source, target in wires:
        above[target].append(lanes.get(source, {}).get(ranks[target] - 1, source))
    return rows, lanes, above


def _order(rows: list[list[int]], above: Mapping[int, list[int]]) -> None:
    """Sorts each layer by the mean place of what it is joined to: downwards and upwards in turn, downwards last."""
    below = _reversed(above)
    place = {i: n - (len(row) - 1) / 2 for row in rows for n, i in enumerate(row)}
    for sweep in range(SWEEPS + 1):
        joined = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            row.sort(key=lambda i: sum(place[j] for j in joined[i]) / len(joined[i]) if joined.get(i) else place[i])
            place.update((i, n - (len(row) - 1) / 2) for n, i in enumerate(row))


def _spread_all(
    rows: Sequence[Sequence[int]], above: Mapping[int, list[int]], wide: Sequence[int], cards: int
) -> dict[int, float]:
    """The middle of each card and lane, in its order, near the middle of what it is joined to."""
    below = _reversed(above)
    x: dict[int, float] = {}
    for row in rows:
        x.update(zip(row, _spread([0.0] * len(row), [1.0] * len(row), [wide[i] for i in row]), strict=True))
    for sweep in range(SWEEPS + 1):
        joined = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            wanted = [sum(x[j] for j in joined[i]) / len(joined[i]) if joined.get(i) else x[i] for i in row]
            weights = [STRAIGHT if i >= cards and any(j >= cards for j in joined.get(i, ())) else 1.0 for i in row]
            x.update(zip(row, _spread(wanted, weights, [wide[i] for i in row]), strict=True))
    return x


def _reversed(above: Mapping[int, list[int]]) -> dict[int, list[int]]:
    below: dict[int, list[int]] = defaultdict(list)
    for index, sources in above.items():
        for source in sources:
            below[source].append(index)
    return below


def _spread(wanted: Sequence[float], weights: Sequence[float], wide: Sequence[int]) -> list[float]:
    """Places in this order without overlap, nearest to those wanted by weighted least squares."""
    offsets: list[float] = []
    for index, width in enumerate(wide):
        offsets.append(offsets[-1] + (wide[index - 1] + width) / 2 + GAP if offsets else 0.0)
    blocks: list[tuple[float, float, int]] = []
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        total, mass, count = weight * (want - offset), weight, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / mass:
            before = blocks.pop()
            total, mass, count = total + before[0], mass + before[1], count + before[2]
        blocks.append((total, mass, count))
    means = [total / mass for total, mass, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
