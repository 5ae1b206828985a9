"""Mutated files through every command: a short run of the fuzzer, and the inputs that once failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

CORPUS = ROOT / "benchmarks" / "fuzz" / "corpus.txt"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


def test_inputs_that_once_failed_get_a_sentence() -> None:
    done = run("--only", *CORPUS.read_text().split())
    assert done.returncode == 0, done.stdout


def test_a_short_run_finds_nothing() -> None:
    done = run("--only", *(f"{seed}:{number}" for seed in ("short", "wide", "x") for number in range(26)))
    assert done.returncode == 0, done.stdout


def test_the_fuzzer_reports_a_traceback(tmp_path: Path) -> None:
    fault = "import qdqgraph.graph.graph as g\ng.Graph.opened = classmethod(lambda *a, **k: {}['no'])\n"
    code = (
        fault
        + "import sys\nfrom benchmarks.fuzz.__main__ import main\nsys.argv[1:] = ['--only', 'p:0', 'p:2', 'p:4', 'p:5']\nsys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1 and "traceback: KeyError" in done.stdout
