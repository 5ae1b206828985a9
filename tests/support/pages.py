"""Pages of the documentation as programs: their files, commands and blocks of Python, and the outputs that they quote."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qdqgraph.cli.main import main

FILE_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A block of a page: its language, the name of a file, and the text."""
BLOCK = re.compile(FILE_BLOCK.pattern + r"(?:\n\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
"""The same, with the output that the page quotes after it."""


def pattern(expected: str, numbers: str = r"\d[\d,.]*") -> str:
    """What an output must look like: "..." matches anything, and any number of the form `numbers` any other."""
    text = re.escape(re.sub(numbers, "#", expected)).replace(r"\#", numbers).replace("#", numbers)
    return re.sub(r"(\\\.){3}\n?", lambda m: ".*", text)


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that follows it."""
    parts = re.split(r"^\$ (.*)\n", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


@dataclass(frozen=True)
class Step:
    """One step of a page that was run.

    Attributes:
        text: the command or the Python code.
        expected: the output that the page quotes; None: it quotes none.
        output: the output.
    """

    text: str
    expected: str | None
    output: str

    def as_quoted(self) -> bool:
        """Whether the output is what the page quotes."""
        found = "".join(f"{line.rstrip()}\n" for line in self.output.splitlines())
        return self.expected is None or re.fullmatch(pattern(self.expected), found, re.DOTALL) is not None


def run_page(page: Path, skipped: str = "") -> Iterator[Step]:
    """Writes a page's files into the working directory and runs its `qdqgraph` commands and its Python, in order, in one
    namespace. Python that imports `skipped`, a package that is not installed, is left out."""
    namespace: dict[str, Any] = {}
    for kind, name, body, quoted in BLOCK.findall(page.read_text(encoding="utf-8")):
        if name:
            Path(name).write_text(body, encoding="utf-8")
        for line, expected in commands(body) if kind == "console" else ():
            program, *words = shlex.split(line)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                code = main(words)
            assert program == "qdqgraph" and code in (0, 1), line
            yield Step(line, expected, output.getvalue())
        if kind == "python" and not name and not (skipped and skipped in body and find_spec(skipped) is None):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(body, str(page), "exec"), namespace)
            yield Step(body, quoted or None, output.getvalue())
