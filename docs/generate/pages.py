"""The generated files and what writes them; `qdqgraph rules pages` writes the pages of the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import api, architecture, cli, licences, notebook

PAGES: Mapping[str, Callable[[], str]] = {
    "docs/cli.md": cli.page,
    "docs/api.md": api.page,
    "docs/architecture.svg": architecture.picture,
    "docs/licences.md": licences.page,
    "docs/notebooks/repair.md": notebook.page,
}
"""For each file of the repository the function that returns its text."""
