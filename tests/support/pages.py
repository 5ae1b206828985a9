"""Pages of the documentation as programs: their files, commands and blocks of Python, and the outputs that they quote."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from qdqgraph.cli.main import main
from tests.support.documents import blocks
from tests.support.paths import ROOT

OUTPUTS = ("-o", "--output", "--picture", "--plan", "--statistics", "--report")
"""Options before the name of a file that a command writes."""


def pattern(expected: str, numbers: str = r"\d[\d,.]*") -> str:
    """What an output must look like: "..." matches anything; any number of the form `numbers`, or width of a
    column, is as good as another."""
    text = re.escape(re.sub(numbers, "#", expected)).replace(r"\#", numbers).replace("#", numbers)
    text = re.sub(r"(\\ ){2,}", lambda m: r"\ {2,}", text)
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
    """Writes a page's files into the working directory and runs its commands and its Python, in order, in one namespace.

    Blocks that the page marks as not run are left out, and Python that imports `skipped`, a package that is not installed.
    """
    namespace: dict[str, Any] = {}
    for block in blocks(page):
        if block.reason:
            continue
        if block.name:
            Path(block.name).parent.mkdir(parents=True, exist_ok=True)
            Path(block.name).write_text(block.body, encoding="utf-8")
        elif block.kind == "console":
            for line, expected in commands(block.body):
                yield Step(line, expected, run(line))
        elif block.kind == "sh":
            for line in block.lines:
                yield Step(line, None, run(line))
        elif block.kind == "python" and not (skipped and skipped in block.body and find_spec(skipped) is None):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(block.body, str(page), "exec"), namespace)
            yield Step(block.body, block.quoted, output.getvalue())


def run(line: str) -> str:
    """Runs `qdqgraph …` here or `python …` as a process, and returns what it printed. It must not fail.

    What an earlier block wrote is removed first where the command writes a file of that name: the page shows alternatives.
    """
    line, _, target = line.partition(" > ")
    program, *words = shlex.split(line)
    for option, name in pairwise(words):
        if option in OUTPUTS and Path(name).is_file():
            Path(name).unlink()
    if program == "qdqgraph":
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as said:
            code = main(words)
        text, errors = output.getvalue(), said.getvalue()
    else:
        assert program == "python", line
        words = [str(ROOT / word) if word.startswith(("samples/", "benchmarks/")) else word for word in words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
        code, text, errors = done.returncode, done.stdout, done.stderr
    assert code in (0, 1) and "Traceback" not in errors, f"{line}\n{errors}"
    if target:
        Path(target.strip()).write_text(text, encoding="utf-8")
    return text
