"""Programs that write pages of the documentation from the code, and the hook of the site: `python -m docs.generate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import architecture, cli, licences

PAGES: Mapping[str, Callable[[], str]] = {
    "docs/cli.md": cli.page,
    "docs/architecture.svg": architecture.picture,
    "docs/licences.md": licences.page,
}
"""The generated files and what writes them; `qdqgraph rules pages` writes those of the rules."""
