"""The program that kills commands while they write: it sees what a kill leaves where nothing recovers it."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT

WITHOUT_RECOVERY = """
import sys
from benchmarks import kills
from qdqgraph.model.writing import models, texts
models.recover = texts.recover = lambda folders: None
kills.SIGNALS, kills.TARGETS = ("SIGKILL",), ("first",)
sys.argv[1:] = ["--kills", "25", "--seed", "test"]
sys.exit(kills.main())
"""


def test_leftovers_are_seen() -> None:
    command = [sys.executable, "-c", WITHOUT_RECOVERY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1 and "leftovers: fix " in done.stdout
