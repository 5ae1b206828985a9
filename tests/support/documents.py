"""The Markdown of the documentation: its pages, their blocks, links and headings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]*) -->\n)?^```(?P<kind>\w+)(?: (?P<name>\S+))?\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


RECIPES = ("fix.py", "pytorch_quantization_export.py", "quantize_static.py")
"""The programs of docs/recipes.md that tests/docs/test_recipes.py runs."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: the file.
        kind: its language: console, sh, python, text …
        name: the file that it shows, or empty.
        reason: why it is not run, as the comment above it says; empty: it is run.
        quoted: the output that a block of text directly after it shows; None: there is none.
    """

    page: Path
    kind: str
    name: str
    body: str
    reason: str
    quoted: str | None

    @property
    def lines(self) -> list[str]:
        """The commands of a block of kind sh or console, without comments; a line that ends in a backslash goes on."""
        text = re.sub(r"\\\n\s*", " ", self.body)
        if self.kind == "console":
            text = "\n".join(re.findall(r"^\$ (.*)$", text, re.MULTILINE))
        return [line for part in text.splitlines() if (line := re.sub(r"(^|\s)#.*", "", part).strip())]


def pages() -> list[Path]:
    """The pages that people wrote, and the CLI reference; without those of the rules, whose examples are tests."""
    docs = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "rules"]
    return sorted([*docs, *(ROOT / name for name in ("README.md", "SECURITY.md", "samples/README.md"))])


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    made = []
    for index, match in enumerate(found):
        after = found[index + 1] if index + 1 < len(found) else None
        adjoins = after is not None and after["kind"] == "text" and not text[match.end() : after.start()].strip()
        quoted = after["body"] if after is not None and adjoins and match["kind"] == "python" else None
        made.append(Block(page, match["kind"], match["name"] or "", match["body"], match["reason"] or "", quoted))
    return made


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    found: dict[str, int] = {}
    names: set[str] = set()
    for title in HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "")
        kept = "".join(c for c in unicodedata.normalize("NFC", text).lower() if c.isalnum() or c in " -_")
        slug = kept.strip().replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        names.add(f"{slug}-{count}" if count else slug)
    return names


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures, those of other sites left out."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    for link, picture in LINK.findall(text):
        target = link or picture
        if not re.match(r"(https?|mailto):", target):
            yield target
