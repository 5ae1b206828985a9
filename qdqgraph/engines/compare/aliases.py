"""Names of the same nodes in two exports that differ by a scope: `module.`, `model/`, `quant_`.

No list of such words: a part is removed from a name of one engine, or another prefix put in its place, if that turns
several names into names of the other engine, one to one. What distinguishes nodes of one network stays: numbers are
removed only from prefixes, and operator names at the end only if the shorter name is still unique.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

SEPARATORS = "/._:"
SPLIT = re.compile(rf"([{SEPARATORS}]+)")
UNNAMED = re.compile(r"^[A-Za-z][A-Za-z0-9]*\((.+)\)$")
"""How a forecast calls a node without a name: its operator and output."""
SUBSTITUTED = 3
"""The fewest names that show that one prefix replaces another, or that a prefix has a number."""
INSIDE, AT_END = 2, 2
"""The most words removed inside a name, and at its end."""
AMBIGUOUS = 4
"""A shorter name that this many names have says nothing."""


@dataclass(frozen=True)
class Cut:
    """What was removed from a name.

    Attributes:
        where: the place in the name; "" if nothing was removed.
        text: the removed words with a separator.
    """

    where: Literal["", "start", "inside", "end"] = ""
    text: str = ""


def aliases(a: Collection[str], b: Collection[str]) -> dict[str, str]:
    """Returns the names in b of nodes of a that have another name there, one to one.

    Args:
        a: names of the nodes of one engine.
        b: names of the nodes of another engine.
    """
    shared = set(a) & set(b)
    left, right = set(a) - shared, set(b) - shared
    found = dict(_unnamed(left, right)) | {y: x for x, y in _unnamed(right, left)}
    left -= set(found)
    right -= set(found.values())
    votes = _votes(sorted(left), sorted(right))
    for cuts in sorted(votes, key=lambda c: (-len(votes[c]), len(c[0].text) + len(c[1].text), str(c))):
        pairs = {x: y for x, y in votes[cuts].items() if x in left and y in right}
        if pairs and _credible(cuts, len(pairs), min(len(left), len(right))):
            found.update(pairs)
            left -= set(pairs)
            right -= set(pairs.values())
    return found


def _unnamed(a: Collection[str], b: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields the nodes of a forecast without a name, "Conv(363)", with their names in an engine, "node_of_363".

    Measured on TensorRT-RTX 1.7.1, whose parser is NVIDIA's.
    """
    for name in a:
        if (output := UNNAMED.match(name)) and f"node_of_{output[1]}" in b:
            yield name, f"node_of_{output[1]}"


def _credible(cuts: tuple[Cut, Cut], count: int, most: int) -> bool:
    """Whether enough names follow a rule: all that are left or two; for bolder rules three and half of what is left."""
    if all(cut.text for cut in cuts) and len({re.sub(r"\d+", "", cut.text) for cut in cuts}) == 1:
        return False  # "layer1." and "layer2." are two parts of one network
    numbered = any(character.isdecimal() for cut in cuts for character in cut.text)
    if numbered or all(cut.text for cut in cuts):
        return count >= max(SUBSTITUTED, most / 2)
    return count >= min(2, most)


def _votes(a: Collection[str], b: Collection[str]) -> dict[tuple[Cut, Cut], dict[str, str]]:
    """Returns the names that each pair of cuts makes equal; pairs of names that share either with another are left
    out."""
    ours, theirs = _shortened(a), _shortened(b)
    found: dict[tuple[Cut, Cut], list[tuple[str, str]]] = defaultdict(list)
    for short in ours.keys() & theirs.keys():
        for name, cut in ours[short]:
            for other, removed in theirs[short]:
                if "" in (cut.text, removed.text) or cut.where == removed.where == "start":
                    found[cut, removed].append((name, other))
    return {cuts: pairs for cuts, each in found.items() if (pairs := _one_to_one(each))}


def _one_to_one(pairs: list[tuple[str, str]]) -> dict[str, str]:
    unique = set(pairs)
    ours, theirs = (Counter(pair[side] for pair in unique) for side in (0, 1))
    return {x: y for x, y in sorted(unique) if ours[x] == theirs[y] == 1}


def _shortened(names: Collection[str]) -> Mapping[str, list[tuple[str, Cut]]]:
    """Returns the names and cuts that give each shorter name, without the ambiguous ones."""
    found: dict[str, list[tuple[str, Cut]]] = defaultdict(list)
    for name in names:
        for short, cut in set(_variants(name)):
            found[short].append((name, cut))
    for short, made in found.items():
        if sum(cut.where == "end" for _, cut in made) > 1:
            found[short] = [(name, cut) for name, cut in made if cut.where != "end"]
    return {short: sorted(made, key=str) for short, made in found.items() if len(made) < AMBIGUOUS}


def _variants(name: str) -> Iterator[tuple[str, Cut]]:
    """Yields a name without separators at its ends, then shorter by each cut."""
    parts = SPLIT.split(name.strip(SEPARATORS))
    words = len(parts) // 2 + 1
    yield "".join(parts), Cut()
    for count in range(1, words):
        yield "".join(parts[2 * count :]), Cut("start", "".join(parts[: 2 * count]))
    for count in range(1, min(AT_END + 1, words)):
        if not any(word.isdecimal() for word in parts[-2 * count + 1 :: 2]):
            yield "".join(parts[: -2 * count]), Cut("end", "".join(parts[-2 * count :]))
    for first in range(1, words - 1):
        for last in range(first + 1, min(first + 1 + INSIDE, words)):
            if any(word.isdecimal() for word in parts[2 * first : 2 * last : 2]):
                break
            yield "".join(parts[: 2 * first] + parts[2 * last :]), Cut("inside", "".join(parts[2 * first : 2 * last]))
            before = parts[2 * first - 1 : 2 * last - 1]
            yield "".join(parts[: 2 * first - 1] + parts[2 * last - 1 :]), Cut("inside", "".join(before))
