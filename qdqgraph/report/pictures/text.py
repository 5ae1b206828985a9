"""Text in a card: how wide it is, and what of it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from unicodedata import east_asian_width

from ...printable import printable
from ..summary.names import CUT, shortened
from .sheet import Card

TITLE, LINE = 12, 11
"""Font sizes in pixels."""
ROW, PADDING = 13, 7
"""Pixels: the height of a line of text, and the space around it."""
CHIP = 22
"""Pixels: the mark of a group, with the space before it."""
CHIPS = 3
"""Groups that a card marks; the tooltip has all."""
LEAST, MOST = 120, 210
"""Pixels: the width of a card without its numbers, which always fit."""
NARROW, WIDE = 0.64, 1.05
"""Width of a character as a share of the font size: digits of DejaVu Sans, the widest common sans-serif, and East
Asian ones."""
CAPITAL = 0.78
NAME = 30
"""Characters of a name at first; longer where only that tells it apart from another."""


def width(text: str, size: int) -> float:
    """An upper bound of the width of a text in pixels in common sans-serif fonts."""
    return size * sum(
        WIDE if east_asian_width(c) in "WF" else CAPITAL if c.isupper() or c in "%@…→×+=" else NARROW for c in text
    )


def ended(text: str, room: float, size: int) -> str:
    """The text, without its end if it does not fit."""
    if width(text, size) <= room:
        return text
    text = text[: int(room / (size * NARROW))]
    while text and width(text + CUT, size) > room:
        text = text[:-1]
    return text.rstrip(" ·") + CUT


def begun(text: str, room: float, size: int) -> str:
    """The text, without its beginning if it does not fit."""
    most = max(2, int(room / (size * NARROW)))
    forms = (shortened([text], count)[text] for count in range(most, 1, -1))
    return text if width(text, size) <= room else next((form for form in forms if width(form, size) <= room), CUT)


@dataclass(frozen=True)
class Lines:
    """The texts of cards of one width.

    Attributes:
        cards: the cards.
    """

    cards: tuple[Card, ...]

    @cached_property
    def names(self) -> Sequence[str]:
        """The titles, shortened at the front as far as they differ."""
        short = shortened((printable(card.title) for card in self.cards), NAME)
        return [short[printable(card.title)] for card in self.cards]

    @cached_property
    def wide(self) -> int:
        """The width of each card: its facts and alarms fit, and names up to `MOST`."""
        fixed = [width(printable(t), LINE) for card in self.cards for t in (*card.facts, *card.alarms)]
        free = [width(name, TITLE) for name in self.names]
        free += [width(card.words, LINE) + CHIP * min(len(card.groups), CHIPS) for card in self.cards]
        return ceil(max([LEAST, *fixed, *(min(MOST, each) for each in free)])) + 2 * PADDING

    def title(self, index: int) -> str:
        """The title of a card as it is shown."""
        return begun(self.names[index], self.wide - 2 * PADDING, TITLE)

    def words(self, card: Card) -> str:
        """What a card computes, as it is shown."""
        room = self.wide - 2 * PADDING - CHIP * min(len(card.groups), CHIPS)
        return ended(printable(card.words), room, LINE)


def height(card: Card) -> int:
    """The height of a card in pixels."""
    second = 1 if card.words or card.groups else 0
    return ROW * (1 + second + len(card.facts) + len(card.alarms)) + PADDING + (4 if card.share else 0)
