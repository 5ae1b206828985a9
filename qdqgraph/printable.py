"""`printable`: text without the characters that a terminal, a log or a browser acts on.

Names in models are arbitrary text. Escape sequences change a terminal and its links, a line break can begin a workflow
command of GitHub Actions (`::stop-commands::`; `##[…]` is one at any place of a line), bidirectional controls reorder
what is shown, and XML does not allow control characters.

Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions, ActionCommand.cs of
https://github.com/actions/runner, and https://www.unicode.org/reports/tr9/ (the controls).
"""

from __future__ import annotations

import re

UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""C0, DEL, C1, line and paragraph separators, bidirectional controls, surrogates, which cannot be encoded, and the two
noncharacters that XML does not allow."""
OLD_COMMAND = "##["
"""The beginning of a workflow command of GitHub Actions at any place of a line."""
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
CONTINUED = re.compile(r"\n(?=  )")
"""A line break of a message of several lines: the next line is indented."""


def printable(text: str, keep: str = "") -> str:
    r"""Returns a text with every unsafe character as an escape: `\n`, `\x1b`, `\u202e`.

    Args:
        text: the text.
        keep: characters that stay.
    """

    def escape(found: re.Match[str]) -> str:
        character = found[0]
        if character in keep:
            return character
        code = ord(character)
        return SHORT.get(character, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")

    return UNSAFE.sub(escape, text).replace(OLD_COMMAND, "#\\x23[")


def printable_message(text: str) -> str:
    """Returns a message, of which line breaks before indented lines stay; no line begins with `::`."""
    return "\n".join(_no_command(printable(line)) for line in CONTINUED.split(text))


def printable_lines(text: str) -> str:
    """Returns a text with its line breaks; no line begins with `::`."""
    return "\n".join(_no_command(printable(line)) for line in text.split("\n"))


def printable_json(text: str) -> str:
    r"""Returns the same JSON: its strings have unsafe characters as `\uXXXX`, which readers decode."""
    found = UNSAFE.sub(lambda each: "\n" if each[0] == "\n" else f"\\u{ord(each[0]):04x}", text)
    return found.replace(OLD_COMMAND, "#\\u0023[")


def _no_command(line: str) -> str:
    start = len(line) - len(line.lstrip())
    return f"{line[:start]}\\x3a{line[start + 1 :]}" if line.startswith("::", start) else line
