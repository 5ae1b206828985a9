"""docs/notebooks: runs a notebook, and writes it with its outputs as a page.

`python -m docs.generate.notebook` runs docs/notebooks/repair.ipynb and stores what its cells print.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from .paths import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "repair.ipynb"
HEAD = "<!-- Generated from repair.ipynb by `python -m docs.generate`: edit the notebook, not this page. -->"
SECONDS = 120
"""The longest time for one cell."""


def executed(path: Path = NOTEBOOK) -> Any:
    """The notebook with the outputs of a run in an empty folder.

    Raises:
        CellExecutionError: a cell raises an exception.
    """
    notebook = nbformat.read(path, as_version=4)
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    return notebook


def printed(cell: Any) -> str:
    """What a cell printed or returned, as text; what libraries write to stderr is left out."""
    parts = [out.get("text", "") for out in cell.get("outputs", ()) if out.get("name") == "stdout"]
    parts += [
        out["data"]["text/plain"] + "\n" for out in cell.get("outputs", ()) if out.output_type == "execute_result"
    ]
    return "".join(parts)


def lines(notebook: Any) -> Iterator[str]:
    """The page: text cells as they are, code and what it printed as blocks."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            yield cell.source + "\n"
        else:
            yield f"<!-- not run: excerpt, the notebook is run -->\n```python\n{cell.source}\n```\n"
            if text := printed(cell):
                yield f"```text\n{text.rstrip()}\n```\n"
        if index == 0:
            yield HEAD + "\n"


def page() -> str:
    """The text of docs/notebooks/repair.md."""
    return "\n".join(lines(nbformat.read(NOTEBOOK, as_version=4)))


if __name__ == "__main__":
    done = executed()
    for cell in done.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    nbformat.write(done, NOTEBOOK)
