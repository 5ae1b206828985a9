"""What a misspelled option or value of the command line may mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import guess, nearest


def unknown_option(words: Iterable[str], known: Iterable[str]) -> str:
    """Returns the suffix of a message about words of which the first option is unknown; "" if no known one is near.

    Args:
        words: the words that no argument took.
        known: the options of the command, with their dashes.
    """
    options = [word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")]
    near = nearest(options[0], (name.removeprefix("--") for name in sorted(known))) if options else ""
    return f"; did you mean '--{near}'?" if near else ""


def unknown_choice(value: str, known: Sequence[str]) -> str:
    """Returns the message about a value that is not among the known ones."""
    near = guess(value, known)
    return f"there is no {value!r}{f'{near} Choose' if near else '; choose'} from {', '.join(known)}"
