"""Hook of mkdocs: what GitHub and Python-Markdown read differently, and links that leave docs/.

Names of files in fences become titles. Escaped pipes inside code are bare ones in Python-Markdown.

The repository names no address of its own, so a link from the site to a source file would lead nowhere: its text stays.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]

FENCE = re.compile(r"^( *```\w+) ([\w./-]+)$", re.MULTILINE)
"""The first line of a fence with the name of a file."""
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(((?!https?:|mailto:|#)[^)\s]+)\)")
"""A link to a file: its text and its target."""
PIPES = re.compile(r"(?<=`)[^`\n]*\\\|[^`\n]*(?=`)")
"""Code with escaped pipes, as GitHub needs them in tables."""
MOVED = {
    "README.md": "README.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "samples/README.md": "samples.md",
}
"""Files outside docs/ that are pages of the site."""


def rewritten(text: str, uri: str, of: str = "") -> str:
    """The Markdown of a page of the site.

    Args:
        text: the page, as it is in the repository.
        uri: the path of the page under docs/.
        of: the path in the repository of the file whose text this is, if the page includes another file.
    """
    folder = posixpath.dirname(of or f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        target = posixpath.normpath(posixpath.join(folder, path))
        page = MOVED.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
        if not page:
            return match[1]
        return f"[{match[1]}]({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{mark}{anchor})"

    text = PIPES.sub(lambda match: match[0].replace("\\|", "|"), FENCE.sub(r'\1 title="\2"', text))
    return LINK.sub(link, text)


def expanded(entry: Any) -> Any:
    """An entry of the navigation; of a folder, as `Decisions: decisions/`, its pages."""
    if isinstance(entry, list):
        return [expanded(part) for part in entry]
    if isinstance(entry, dict):
        return {title: expanded(below) for title, below in entry.items()}
    if entry.endswith("/"):
        pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / entry).glob("*.md")]
        return sorted(pages, key=lambda page: (not page.endswith("README.md"), page))
    return entry


def named(entry: Any) -> set[str]:
    """The pages that an entry of the navigation names."""
    below = entry.values() if isinstance(entry, dict) else entry
    return {entry} if isinstance(entry, str) else set().union(*map(named, below))


def on_config(config: Any) -> Any:
    """Called by mkdocs with its configuration. Pages that the navigation does not name come last, under More."""
    nav = expanded(config.nav)
    found = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    config.nav = [*nav, {"More": sorted(rest)}] if (rest := found - named(nav)) else nav
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Called by mkdocs with the files of docs/: adds those that lie elsewhere."""
    for path, name in MOVED.items():
        if path != name:
            files.append(File.generated(config, name, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Called by mkdocs for each page."""
    uri = page.file.src_uri
    of = {name: path for path, name in MOVED.items() if name != "README.md"}.get(uri, "")
    return rewritten(markdown, uri, of)
